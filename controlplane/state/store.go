package state

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-memdb"
)

// Store is the state. Apply and Restore are called by one goroutine at a time;
// reads may run beside them. Each read method of Store sees the newest state;
// those of one View see one and the same state.
type Store struct {
	View
	db *memdb.MemDB
	// nodes wakes who waits for a node's desired set.
	nodes bells
}

// New returns an empty state.
func New() (*Store, error) {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		return nil, fmt.Errorf("state: schema: %w", err)
	}
	return &Store{db: db, View: View{begin: func() *memdb.Txn { return db.Txn(false) }}}, nil
}

// At returns the state as it is now, unmoved by later commands.
func (s *Store) At() View {
	txn := s.db.Txn(false)
	return View{begin: func() *memdb.Txn { return txn }}
}

// Apply applies the committed entry with the given Raft index. Result.Err is
// the domain's answer; the error is a fault after which the server must stop.
// Either way nothing is half done, and a domain error moves the index too.
func (s *Store) Apply(index uint64, entry []byte) (Result, error) {
	command, err := Decode(entry)
	if err != nil {
		return Result{}, fmt.Errorf("index %d: %w", index, err)
	}
	if have := s.Index(); index <= have {
		return Result{}, fmt.Errorf("state: entry %d comes after entry %d", index, have)
	}
	m := &mutation{txn: s.db.Txn(true), index: index}
	defer func() { m.txn.Abort() }()
	result, err := command.apply(m)
	if err == nil {
		err = m.err
	}
	if err != nil {
		if !isDomain(err) {
			return Result{}, fmt.Errorf("state: apply %s at %d: %w", command.Kind(), index, err)
		}
		m.txn.Abort()
		m = &mutation{txn: s.db.Txn(true), index: index}
		result = Result{Err: err}
	}
	m.put(tableMeta, &metaRow{Key: metaIndex, Value: index})
	if m.err != nil {
		return Result{}, fmt.Errorf("state: apply %s at %d: %w", command.Kind(), index, m.err)
	}
	m.txn.Commit()
	s.nodes.ring(m.desired)
	result.Index = index
	return result, nil
}

// mutation is one command's transaction. Its first fault of the database sticks
// in err, so that appliers read as rules rather than as error handling.
type mutation struct {
	txn   *memdb.Txn
	index uint64
	err   error
	// desired are the nodes whose desired set this changes.
	desired []string
}

func (m *mutation) fault(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *mutation) put(table string, row any) {
	m.note(row)
	if err := m.txn.Insert(table, row); err != nil {
		m.fault(fmt.Errorf("%s: %w", table, err))
	}
}

func (m *mutation) remove(table string, row any) {
	m.note(row)
	if err := m.txn.Delete(table, row); err != nil && !errors.Is(err, memdb.ErrNotFound) {
		m.fault(fmt.Errorf("%s: %w", table, err))
	}
}

func (m *mutation) note(row any) {
	if d, ok := row.(*desiredRow); ok {
		m.desired = append(m.desired, d.NodeID)
	}
}

// first returns the row under an index's exact key, or nil.
func first[R any](txn *memdb.Txn, table, index string, args ...any) *R {
	raw, err := txn.First(table, index, args...)
	if err != nil || raw == nil {
		return nil
	}
	return raw.(*R)
}

// all returns the rows whose key starts with args, in key order.
func all[R any](txn *memdb.Txn, table, index string, args ...any) []*R {
	it, err := txn.Get(table, index, args...)
	if err != nil {
		return nil
	}
	var rows []*R
	for raw := it.Next(); raw != nil; raw = it.Next() {
		rows = append(rows, raw.(*R))
	}
	return rows
}
