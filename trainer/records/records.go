package records

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"runtime"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/clean"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/ordered"
	"github.com/tunemesh/tunemesh/trainer/pii"
)

// A batch is what one worker takes: enough rows to make its handling cheap, few
// enough bytes to keep memory small when cells are large.
const (
	batchRows  = 256
	batchBytes = 1 << 20
)

// Record is one row, cleaned.
type Record struct {
	Index    int64 // from 0, data rows in the order of the file
	Row      int64 // of the file, from 1 with the header as 1
	Input    string
	Target   string
	Context  string
	Messages []Message // task chat with a column of conversations

	NoInput, NoTarget bool
	Untidy            bool // cleaning changed white space or invisible characters
	PII               pii.Counts

	Raw uint64 // hash of the cells as they stand in the file, of this process only
	// Key is equal for two rows of which one is a duplicate: the same input, and
	// for tasks other than classification the same target. Group is equal for two
	// rows that must not be on both sides of a split: the same input.
	Key, Group clean.Sum
}

// Message is one turn of a conversation.
type Message struct {
	Role, Content string
}

// Source is the file and how to read it.
type Source struct {
	In      contract.Input
	Config  contract.Config
	Profile dataset.Profile
	// Workers clean and work on rows; 0: one for each core the placement reserved.
	Workers int

	seed maphash.Seed
}

// New finds the source of a stage that follows the dataset stage.
func New(in contract.Input) (*Source, error) {
	c, err := dataset.Config(in)
	if err != nil {
		return nil, err
	}
	s := &Source{In: in, Config: c, Workers: in.Devices.CPUCores, seed: maphash.MakeSeed()}
	if err := in.Previous(dataset.OutputKey, &s.Profile); err != nil {
		return nil, err
	}
	if s.Workers <= 0 {
		s.Workers = runtime.GOMAXPROCS(0)
	}
	return s, nil
}

// raw is a row's cells before cleaning.
type raw struct {
	index, row                       int64
	input, target, context, messages string
}

// Map calls work on batches of the file's records, in parallel, and sink on its
// results in the order of the file.
func Map[O any](ctx context.Context, s *Source, work func([]Record) (O, error), sink func(O) error) error {
	return ordered.Map(ctx, s.Workers, s.read, func(rows []raw) (O, error) {
		batch := make([]Record, len(rows))
		for i := range rows {
			if err := s.clean(&rows[i], &batch[i]); err != nil {
				var none O
				return none, err
			}
		}
		return work(batch)
	}, sink)
}

// read cuts the file into batches.
func (s *Source) read(yield func([]raw) error) error {
	rows, file, err := s.Profile.Open(s.In, s.Config)
	if err != nil {
		return err
	}
	defer file.Close()
	roles := s.Profile.Roles
	column := func(role dataset.Role) int { return slices.Index(rows.Columns(), role.Column) }
	input, target, context, messages := column(roles.Input), column(roles.Target), column(roles.Context), column(roles.Messages)
	cell := func(cells []string, i int) string {
		if i < 0 {
			return ""
		}
		return cells[i]
	}
	batch, size := make([]raw, 0, batchRows), 0
	for index := int64(0); ; index++ {
		cells, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r := raw{index: index, row: rows.Row(), input: cell(cells, input), target: cell(cells, target), context: cell(cells, context), messages: cell(cells, messages)}
		for _, c := range cells { // a cell keeps its whole row alive
			size += len(c)
		}
		batch = append(batch, r)
		if len(batch) == batchRows || size >= batchBytes {
			if err := yield(batch); err != nil {
				return err
			}
			batch, size = make([]raw, 0, batchRows), 0
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return yield(batch)
}
