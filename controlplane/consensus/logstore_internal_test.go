package consensus

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// A compaction of more entries than one transaction deletes leaves those after
// it, and so does cutting off the end.
func TestManyEntriesAreDeleted(t *testing.T) {
	s, err := openBolt(filepath.Join(t.TempDir(), "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const last = 3*deletedAtOnce + 10
	var logs []*raft.Log
	for i := uint64(1); i <= last; i++ {
		logs = append(logs, &raft.Log{Index: i, Data: []byte("x")})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ first, last, wantFirst, wantLast uint64 }{
		{1, 2*deletedAtOnce + 5, 2*deletedAtOnce + 6, last},
		{last - 2, last, 2*deletedAtOnce + 6, last - 3},
		{2*deletedAtOnce + 6, last, 0, 0},
	} {
		if err := s.DeleteRange(c.first, c.last); err != nil {
			t.Fatal(err)
		}
		first, err1 := s.FirstIndex()
		end, err2 := s.LastIndex()
		if err1 != nil || err2 != nil || first != c.wantFirst || end != c.wantLast {
			t.Errorf("after %d to %d were deleted the log is %d to %d, want %d to %d (%v, %v)", c.first, c.last, first, end, c.wantFirst, c.wantLast, err1, err2)
		}
	}
}

// A restore leaves a gap of 2^32 between the log's indices, and the compaction
// that comes after it has to get over it: when it went in steps by index it kept
// the disk busy for hours, and no snapshot was taken meanwhile.
func TestACompactionGetsOverTheGapOfARestore(t *testing.T) {
	s, err := openBolt(filepath.Join(t.TempDir(), "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const gap = 1000 * deletedAtOnce // enough to be seen, few enough to wait for
	var logs []*raft.Log
	for i := uint64(1); i <= 100; i++ {
		logs = append(logs, &raft.Log{Index: i}, &raft.Log{Index: gap + i})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	transactions := func() (n int) {
		if err := s.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := transactions()
	if err := s.DeleteRange(1, gap+50); err != nil {
		t.Fatal(err)
	}
	if n := transactions() - before; n != 1 {
		t.Errorf("150 entries were deleted in %d transactions, want 1", n)
	}
	if first, err := s.FirstIndex(); err != nil || first != gap+51 {
		t.Errorf("the log begins with %d, want %d (%v)", first, gap+51, err)
	}
}
