package preprocessing

import (
	"context"
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/clean"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/pii"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// fate is what becomes of a row.
type fate uint8

const (
	train fate = iota
	validation
	test
	dropped
)

// maxLabelBytes keeps the stage's output below the contract's 64 KiB.
const maxLabelBytes = 32 << 10

// splits is the number of fates that are splits.
const splits = 3

// survey is what the first pass learns.
type survey struct {
	file    string
	config  contract.Config
	classes records.Classes
	names   []string // by class: the label that is written
	// class holds each different row's class, which decides its split; so a
	// duplicate that has another label is split as the first one is.
	class   map[clean.Sum]int32
	points  [][]uint64 // by class: the points of its rows, to divide them by
	cuts    []cut      // by class
	kept    bitset     // by index of the row
	rows    int64
	dropped map[string]int64
	pii     pii.Counts
	relabel int64
}

// cut divides a class's points: those below test are tests, those below
// validation are for validation, the rest is trained on.
type cut struct{ test, validation uint64 }

func newSurvey(c contract.Config) *survey {
	return &survey{config: c, class: map[clean.Sum]int32{}, dropped: map[string]int64{}}
}

// run is the first pass. at is told how many rows are done.
func (s *survey) run(ctx context.Context, src *records.Source, at func(int64)) error {
	err := records.Map(ctx, src, func(batch []records.Record) ([]records.Record, error) { return batch, nil }, func(batch []records.Record) error {
		for i := range batch {
			s.add(&batch[i])
		}
		at(s.rows)
		return nil
	})
	if err != nil {
		return err
	}
	return s.divide()
}

func (s *survey) add(r *records.Record) {
	s.rows++
	if r.NoInput || r.NoTarget {
		s.dropped[sample.DroppedMissing]++
		return
	}
	class := 0
	if s.config.Task == "classification" {
		class = s.classes.Of(r.Target, r.Row)
	}
	for len(s.points) <= class {
		s.points = append(s.points, nil)
	}
	if _, again := s.class[r.Key]; again {
		if !s.config.Preprocessing.KeepDuplicates {
			s.dropped[sample.DroppedDuplicate]++
			return
		}
	} else {
		s.class[r.Key] = int32(class)
		s.points[class] = append(s.points[class], r.Group.Point(s.config.Seed))
	}
	s.kept.set(r.Index)
	s.pii.Add(r.PII)
}

// divide names the classes and cuts each of them.
func (s *survey) divide() error {
	s.cuts = make([]cut, len(s.points))
	var order []int // of the classes by name, for an outcome that depends on nothing else
	for i := range s.points {
		name := ""
		if i < len(s.classes.All) {
			name = s.classes.All[i].Name()
			s.relabel += s.classes.All[i].Rows - s.classes.All[i].Spellings[name]
		}
		s.names = append(s.names, name)
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int {
		if s.names[a] < s.names[b] {
			return -1
		}
		return 1
	})
	sizes := make([]int, len(order))
	for k, i := range order {
		slices.Sort(s.points[i])
		sizes[k] = len(s.points[i])
	}
	p := s.config.Preprocessing
	tests := shares(sizes, p.TestFraction, 3)
	validations := shares(sizes, p.ValidationFraction, 10)
	for k, i := range order {
		points := s.points[i]
		s.cuts[i].test = at(points, tests[k])
		s.cuts[i].validation = max(s.cuts[i].test, at(points, tests[k]+validations[k]))
	}
	s.points = nil
	bytes := 0
	for _, name := range s.names {
		bytes += len(name)
	}
	if bytes > maxLabelBytes {
		return &contract.Error{Class: contract.ClassBadInput, Code: "LABELS_TOO_LARGE", Message: fmt.Sprintf("the %d labels take %d bytes, the most is %d", len(s.names), bytes, maxLabelBytes), Hint: "is it the column of labels? Name it as label_column, or choose another task"}
	}
	if len(order) == 0 {
		return &contract.Error{Class: contract.ClassBadInput, Code: "NO_USABLE_ROWS", Message: fmt.Sprintf("none of %d rows has both input and target", s.rows), File: s.file, Hint: "fill the columns, or name others in the job's config as text_column and label_column"}
	}
	return nil
}

// at is the first point that is not among the first n.
func at(points []uint64, n int) uint64 {
	if n <= 0 {
		return 0
	}
	if n >= len(points) {
		return ^uint64(0)
	}
	return points[n]
}

// shares gives each class its part of the rows so that the parts add up to
// fraction of all as nearly as whole rows can. A class of atLeast rows or more has
// one at least; none gives up its last two. If that leaves nothing, the largest
// class gives one.
func shares(sizes []int, fraction float64, atLeast int) []int {
	out := make([]int, len(sizes))
	carry, total, largest := 0.0, 0, 0
	for k, n := range sizes {
		want := float64(n)*fraction + carry
		take := int(want + 0.5)
		if n >= atLeast {
			take = max(take, 1)
		}
		take = max(0, min(take, (n-1)/2))
		carry = want - float64(take)
		carry = max(-1, min(1, carry))
		out[k] = take
		total += take
		if n > sizes[largest] {
			largest = k
		}
	}
	if total == 0 && len(sizes) > 0 && sizes[largest] >= 3 {
		out[largest] = 1
	}
	return out
}

// fate says what becomes of a row of the second pass, and which class it has.
func (s *survey) fate(r *records.Record) (fate, int) {
	if !s.kept.has(r.Index) {
		return dropped, 0
	}
	class := 0
	if s.config.Task == "classification" {
		class, _ = s.classes.Index(r.Target)
	}
	c := s.cuts[s.class[r.Key]]
	switch point := r.Group.Point(s.config.Seed); {
	case point < c.test:
		return test, class
	case point < c.validation:
		return validation, class
	}
	return train, class
}

// labels are the classes' names, sorted.
func (s *survey) labels() []string {
	if s.config.Task != "classification" {
		return nil
	}
	sorted := slices.Clone(s.names)
	slices.Sort(sorted)
	return sorted
}

// bitset holds a bit for each row.
type bitset []uint64

func (b *bitset) set(i int64) {
	for int64(len(*b)) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitset) has(i int64) bool { return i/64 < int64(len(b)) && b[i/64]>>(i%64)&1 == 1 }
