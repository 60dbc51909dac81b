package state

import (
	"fmt"

	"github.com/hashicorp/go-memdb"
)

// Graft makes a state that was restored from a backup fit into the cluster that
// v belongs to: its servers and its keyring are those of v, because the backup's
// servers may be gone and nobody here has their keys; v's tokens are kept beside
// the backup's, so that nobody who could get in before is locked out. The index
// becomes the given one, which must be higher than any that the backup's cluster
// ever used: fences are indices, and none may be given out twice.
func (s *Store) Graft(v View, index uint64) error {
	if index <= s.Index() {
		return fmt.Errorf("state: graft: index %d is not above the backup's %d", index, s.Index())
	}
	m := &mutation{txn: s.db.Txn(true), index: index}
	defer func() { m.txn.Abort() }()
	from := v.begin()
	for _, table := range []string{tableServers, tableCluster} {
		if _, err := m.txn.DeleteAll(table, "id"); err != nil {
			return fmt.Errorf("state: graft: %s: %w", table, err)
		}
		m.copyRows(from, table)
	}
	m.copyRows(from, tableTokens)
	m.put(tableMeta, &metaRow{Key: metaIndex, Value: index})
	if m.err != nil {
		return fmt.Errorf("state: graft: %w", m.err)
	}
	m.txn.Commit()
	return nil
}

// copyRows copies another state's rows as they are.
func (m *mutation) copyRows(from *memdb.Txn, table string) {
	it, err := from.Get(table, "id")
	if err != nil {
		m.fault(fmt.Errorf("%s: %w", table, err))
		return
	}
	for row := it.Next(); row != nil; row = it.Next() {
		m.put(table, row)
	}
}

// Used says whether anything was ever done in this state that a restore would
// throw away.
func (v View) Used() bool {
	txn := v.begin()
	for _, table := range []string{tableJobs, tableDatasets} {
		if row, err := txn.First(table, "id"); err == nil && row != nil {
			return true
		}
	}
	return false
}
