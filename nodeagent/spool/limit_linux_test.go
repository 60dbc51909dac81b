package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

func TestDroppingFreesTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := spool.Open(path, spool.Position{}, spool.Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	base, err := r.Over(1 << 20)
	if err == nil {
		err = r.Drop(base)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 2<<20 {
		t.Errorf("%d bytes are used", used)
	}
	line, _, err := r.Next(false)
	if err != nil || line.From != 1 || line.Seq != base.Seq-1 {
		t.Fatalf("first is %+v, %v", line, err)
	}
	ev := source.Event(line)
	if ev.Gap == nil || ev.Gap.From != 1 || ev.Gap.To != base.Seq-1 || ev.Gap.Bytes != base.Offset || ev.ErrorCode != spool.CodeLinesDropped || ev.SourceSeq != base.Seq-1 {
		t.Errorf("the gap's event is %+v", ev)
	}
}
