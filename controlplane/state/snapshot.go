package state

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-memdb"

	"github.com/tunemesh/tunemesh/api"
)

// A snapshot is lines of JSON: a header, one line per row with its table, and
// an end that counts the rows, so that a cut file is known as one. Rows come by
// table and key: equal states give equal bytes.

const (
	snapshotFormat  = "tunemesh-state"
	snapshotVersion = 1
)

type snapshotHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Index   uint64 `json:"index"`
}

type snapshotLine struct {
	Table string          `json:"t,omitempty"`
	Row   json.RawMessage `json:"r,omitempty"`
	// End is the number of rows, on the last line only.
	End *int `json:"end,omitempty"`
}

// snapshotTables lists the tables in the order of a snapshot, each with a
// constructor of its rows. Rows of later versions add fields.
func snapshotTables() []struct {
	name string
	row  func() any
} {
	return []struct {
		name string
		row  func() any
	}{
		{tableMeta, func() any { return &metaRow{} }},
		{tableCluster, func() any { return &clusterRow{} }},
		{tableServers, func() any { return &Server{} }},
		{tableTokens, func() any { return &api.Token{} }},
		{tableDatasets, func() any { return &api.Dataset{} }},
		{tableModels, func() any { return &api.Model{} }},
		{tableNodes, func() any { return &api.Node{} }},
		{tableDesired, func() any { return &desiredRow{} }},
		{tableJobs, func() any { return &jobRow{} }},
		{tableStages, func() any { return &stageRow{} }},
		{tableAttempts, func() any { return &attemptRow{} }},
		{tableTransitions, func() any { return &Transition{} }},
		{tableDead, func() any { return &api.DeadLetter{} }},
	}
}

// WriteSnapshot streams the state. On a View it does not hinder writers.
func (v View) WriteSnapshot(w io.Writer) error {
	txn := v.begin()
	out := bufio.NewWriterSize(w, 1<<16)
	enc := json.NewEncoder(out)
	if err := enc.Encode(snapshotHeader{snapshotFormat, snapshotVersion, View{begin: func() *memdb.Txn { return txn }}.Index()}); err != nil {
		return fmt.Errorf("state: write snapshot: %w", err)
	}
	rows := 0
	for _, t := range snapshotTables() {
		it, err := txn.Get(t.name, "id")
		if err != nil {
			return fmt.Errorf("state: write snapshot: %s: %w", t.name, err)
		}
		for raw := it.Next(); raw != nil; raw = it.Next() {
			row, err := json.Marshal(raw)
			if err == nil {
				err = enc.Encode(snapshotLine{Table: t.name, Row: row})
			}
			if err != nil {
				return fmt.Errorf("state: write snapshot: %s: %w", t.name, err)
			}
			rows++
		}
	}
	if err := enc.Encode(snapshotLine{End: &rows}); err != nil {
		return fmt.Errorf("state: write snapshot: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("state: write snapshot: %w", err)
	}
	return nil
}

// Restore replaces the whole state by a snapshot's, at once: readers see the
// old state until the snapshot is read to its end, and keep it on an error.
// Watches on what changed wake.
func (s *Store) Restore(r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<16))
	var h snapshotHeader
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("state: read snapshot: header: %w", err)
	}
	if h.Format != snapshotFormat || h.Version < 1 || h.Version > snapshotVersion {
		return fmt.Errorf("state: read snapshot: %q version %d is not known to this program: run the newer one", h.Format, h.Version)
	}
	newRow := map[string]func() any{}
	txn := s.db.Txn(true)
	defer func() { txn.Abort() }()
	for _, t := range snapshotTables() {
		newRow[t.name] = t.row
		if _, err := txn.DeleteAll(t.name, "id"); err != nil {
			return fmt.Errorf("state: read snapshot: %s: %w", t.name, err)
		}
	}
	for rows := 0; ; rows++ {
		var line snapshotLine
		if err := dec.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("state: read snapshot: row %d: %w", rows+1, err)
		}
		if line.End != nil {
			if *line.End != rows {
				return fmt.Errorf("state: read snapshot: %d rows, want %d", rows, *line.End)
			}
			if err := countRestore(txn); err != nil {
				return fmt.Errorf("state: read snapshot: %w", err)
			}
			txn.Commit()
			s.nodes.ringAll()
			return nil
		}
		create := newRow[line.Table]
		if create == nil {
			return fmt.Errorf("state: read snapshot: row %d is of the unknown table %q", rows+1, line.Table)
		}
		row := create()
		if err := json.Unmarshal(line.Row, row); err != nil {
			return fmt.Errorf("state: read snapshot: row %d of %s: %w", rows+1, line.Table, err)
		}
		if err := txn.Insert(line.Table, row); err != nil {
			return fmt.Errorf("state: read snapshot: row %d of %s: %w", rows+1, line.Table, err)
		}
	}
}

// Hash is the SHA-256 of the whole state: equal on all servers at equal index.
func (v View) Hash() string {
	h := sha256.New()
	if err := v.WriteSnapshot(h); err != nil {
		return "error: " + err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}
