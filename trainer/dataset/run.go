package dataset

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/table"
)

// ProfileFile is the artifact's name.
const ProfileFile = "profile.json"

// shownColumns is how many columns the output describes; the artifact has all.
const shownColumns = 64

// Run is the stage.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	c, err := Config(in)
	if err != nil {
		return contract.Result{}, err
	}
	source, err := in.Source()
	if err != nil {
		return contract.Result{}, err
	}
	p, seconds, err := read(ctx, source, c, emit)
	if err != nil {
		return contract.Result{}, err
	}
	if p.Roles, err = findRoles(c, source.Name, p.Columns); err != nil {
		return contract.Result{}, err
	}
	announce(p, emit)
	if err := WriteJSON(filepath.Join(in.OutputDir, ProfileFile), p); err != nil {
		return contract.Result{}, fmt.Errorf("write profile: %w", err)
	}
	p.Columns = append([]Column(nil), p.Columns[:min(len(p.Columns), shownColumns)]...)
	for i := range p.Columns {
		p.Columns[i].Examples = nil
	}
	return contract.Result{
		Output:    map[string]any{OutputKey: p},
		Artifacts: map[string]contract.Artifact{ProfileFile: {Path: ProfileFile}},
		Metrics: map[string]float64{
			"rows": float64(p.Rows), "bytes": float64(p.Bytes),
			"rows_per_second": float64(p.Rows) / seconds, "mb_per_second": float64(p.Bytes) / 1e6 / seconds,
		},
	}, nil
}

// read goes through the whole file once: every row is parsed, every byte hashed.
func read(ctx context.Context, source contract.File, c contract.Config, emit *contract.Emitter) (Profile, float64, error) {
	f, err := os.Open(source.Path)
	if err != nil {
		return Profile{}, 0, fmt.Errorf("open dataset: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Profile{}, 0, fmt.Errorf("open dataset: %w", err)
	}
	report := progress.New(emit, "bytes", info.Size(), time.Now)
	sum := sha256.New()
	rows, err := table.Open(io.TeeReader(f, sum), Options(source.Name, c))
	if err != nil {
		return Profile{}, 0, advised(err, c)
	}
	p := Profile{File: source.Name, Bytes: info.Size(), Format: rows.Format(), Task: c.Task}
	stats := make([]columnStats, len(rows.Columns()))
	seed := maphash.MakeSeed()
	for {
		if p.Rows%256 == 0 {
			if err := ctx.Err(); err != nil {
				return p, 0, err
			}
			report.At(rows.Offset())
		}
		cells, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p, 0, advised(err, c)
		}
		p.Rows++
		for i, cell := range cells {
			stats[i].add(seed, cell)
		}
	}
	p.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if source.SHA256 != "" && source.SHA256 != p.SHA256 {
		return p, 0, &contract.Error{Class: contract.ClassTransient, Code: "CHANGED_INPUT", File: source.Name, Message: fmt.Sprintf("the file's SHA-256 is %s, that of the uploaded one %s", p.SHA256, source.SHA256), Hint: "the copy on this node is damaged; another attempt fetches it anew"}
	}
	for i, name := range rows.Columns() {
		p.Columns = append(p.Columns, stats[i].column(name))
	}
	if late, ok := rows.(interface{ Ignored() []string }); ok && len(late.Ignored()) > 0 {
		emit.Warn("LATE_COLUMNS", "keys that first appear after the first rows are not read: "+table.List(late.Ignored()), nil)
	}
	return p, report.End(info.Size()), nil
}

// announce says in the log what was found, and what looks odd.
func announce(p Profile, emit *contract.Emitter) {
	format := p.Format.Kind
	if p.Format.Kind == table.CSV && p.Format.Delimiter != "," {
		format += fmt.Sprintf(" with %q as delimiter", p.Format.Delimiter)
	}
	emit.Info(fmt.Sprintf("%s: %s, %d rows, %d columns", p.File, format, p.Rows, len(p.Columns)), map[string]any{"sha256": p.SHA256, "bytes": p.Bytes})
	for _, r := range []struct {
		name string
		role Role
	}{{"input", p.Roles.Input}, {"target", p.Roles.Target}, {"context", p.Roles.Context}, {"messages", p.Roles.Messages}} {
		if r.role.Column == "" {
			continue
		}
		fields := map[string]any{"column": r.role.Column, "confidence": r.role.Confidence}
		message := fmt.Sprintf("%s column %q (%.0f %% sure: %s)", r.name, r.role.Column, 100*r.role.Confidence, r.role.Why)
		if r.role.Confidence < 0.6 {
			emit.Warn("UNSURE_COLUMN", message+"; name it in the job's config if this is wrong", fields)
		} else {
			emit.Info(message, fields)
		}
	}
	for _, c := range p.Columns {
		if words := len(strings.Fields(c.Name)); words > 8 || len(c.Name) > 80 {
			emit.Warn("HEADER_LOOKS_LIKE_DATA", fmt.Sprintf("the column name %q looks like data: the first row must hold the columns' names", example(c.Name)), nil)
			break
		}
	}
}

// WriteJSON writes an artifact of a stage.
func WriteJSON(path string, v any) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err = errors.Join(e.Encode(v), w.Flush(), f.Close())
	return err
}
