package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"
)

// boltStore keeps Raft's log and its few stable values in one bbolt file; every
// write is on disk (fsync) when it returns. It is our own because raft-boltdb
// does not build with raft v1.8; it reached the same speed. An entry is stored
// under its index, big-endian, as
//
//	version 1 | type 1 | term 8 | appended at, Unix ns 8 | len(extensions) 4 | extensions | data
type boltStore struct {
	db *bbolt.DB
}

const (
	entryVersion = 1
	entryHeader  = 1 + 1 + 8 + 8 + 4
)

func bucketLogs() []byte   { return []byte("logs") }
func bucketStable() []byte { return []byte("stable") }

func openBolt(path string) (*boltStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 2 * time.Second,
		// After a large truncation the freelist is long; writing it with every
		// commit was what slowed others down (bbolt#401, rqlite#968).
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if errors.Is(err, bberrors.ErrTimeout) {
		return nil, fmt.Errorf("consensus: %s is in use: another server runs on this directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("consensus: open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketLogs(), bucketStable()} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("consensus: set up %s: %w", path, err), db.Close())
	}
	return &boltStore{db: db}, nil
}

func (s *boltStore) Close() error { return s.db.Close() }

// FirstIndex implements raft.LogStore.
func (s *boltStore) FirstIndex() (uint64, error) { return s.end((*bbolt.Cursor).First) }

// LastIndex implements raft.LogStore.
func (s *boltStore) LastIndex() (uint64, error) { return s.end((*bbolt.Cursor).Last) }

func (s *boltStore) end(seek func(*bbolt.Cursor) (key, value []byte)) (index uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if k, _ := seek(tx.Bucket(bucketLogs()).Cursor()); k != nil {
			index = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return index, err
}

// GetLog implements raft.LogStore.
func (s *boltStore) GetLog(index uint64, l *raft.Log) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketLogs()).Get(binary.BigEndian.AppendUint64(nil, index))
		if v == nil {
			return raft.ErrLogNotFound
		}
		return decodeEntry(index, v, l)
	})
}

// StoreLog implements raft.LogStore.
func (s *boltStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *boltStore) StoreLogs(logs []*raft.Log) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLogs())
		for _, l := range logs {
			if err := b.Put(binary.BigEndian.AppendUint64(nil, l.Index), encodeEntry(l)); err != nil {
				return err
			}
		}
		return nil
	})
}

// deletedAtOnce bounds a transaction that deletes: a compaction after two busy
// minutes is of 100,000 entries, and nothing can be appended beside it.
const deletedAtOnce = 2048

// DeleteRange implements raft.LogStore; both ends belong to the range. A
// compaction, which starts with the oldest entry, may stop half way and leave no
// hole. What begins later cuts off the log's end, and goes at once.
func (s *boltStore) DeleteRange(first, last uint64) error {
	oldest, err := s.FirstIndex()
	if err != nil {
		return err
	}
	most := math.MaxInt
	if first <= oldest {
		most = deletedAtOnce
	}
	// By entries and not by indices: a restore leaves a gap of 2^32 between them,
	// and to go over it in steps would take millions of transactions.
	for more := true; more; {
		if more, err = s.deleteSome(first, last, most); err != nil {
			return err
		}
	}
	return nil
}

// deleteSome deletes the first entries of a range, most of them at most, and says
// whether it stopped for that.
func (s *boltStore) deleteSome(first, last uint64, most int) (more bool, err error) {
	from := binary.BigEndian.AppendUint64(nil, first)
	err = s.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketLogs()).Cursor()
		k, _ := c.Seek(from)
		for n := 0; k != nil && binary.BigEndian.Uint64(k) <= last; n++ {
			if more = n == most; more {
				return nil
			}
			if err := c.Delete(); err != nil {
				return err
			}
			// After Delete a cursor already stands before the next key.
			k, _ = c.Seek(from)
		}
		return nil
	})
	return more, err
}

func encodeEntry(l *raft.Log) []byte {
	b := make([]byte, 0, entryHeader+len(l.Extensions)+len(l.Data))
	b = append(b, entryVersion, byte(l.Type))
	b = binary.BigEndian.AppendUint64(b, l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Extensions)))
	b = append(b, l.Extensions...)
	return append(b, l.Data...)
}

// decodeEntry copies: bbolt's bytes are valid within their transaction only.
func decodeEntry(index uint64, v []byte, l *raft.Log) error {
	if len(v) < entryHeader || v[0] != entryVersion {
		return fmt.Errorf("consensus: log entry %d is damaged or of a newer program", index)
	}
	n := uint64(binary.BigEndian.Uint32(v[18:22]))
	rest := v[entryHeader:]
	if n > uint64(len(rest)) {
		return fmt.Errorf("consensus: log entry %d is cut off", index)
	}
	*l = raft.Log{Index: index, Type: raft.LogType(v[1]), Term: binary.BigEndian.Uint64(v[2:10])}
	if at := int64(binary.BigEndian.Uint64(v[10:18])); at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	if n > 0 {
		l.Extensions = append([]byte(nil), rest[:n]...)
	}
	l.Data = append([]byte(nil), rest[n:]...)
	return nil
}

// Set implements raft.StableStore.
func (s *boltStore) Set(key, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketStable()).Put(key, value) })
}

// Get implements raft.StableStore: nil if there is none.
func (s *boltStore) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketStable()).Get(key); v != nil {
			value = append([]byte{}, v...)
		}
		return nil
	})
	return value, err
}

// SetUint64 implements raft.StableStore.
func (s *boltStore) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore: 0 if there is none.
func (s *boltStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil || len(v) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// Log is a server's log on disk.
type Log interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// OpenLog opens a log as Open does, for a comparison with Raft by itself.
func OpenLog(path string) (Log, error) { return openBolt(path) }
