package dataset

import (
	"hash/maphash"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/pii"
)

const (
	maxDistinct   = 2000
	maxExamples   = 3
	exampleLength = 80
)

// columnStats gathers a Column over the rows, in memory that does not grow.
type columnStats struct {
	filled     int64
	bytes      int64
	longest    int
	notNumeric bool
	more       bool
	values     map[uint64]struct{} // hashes of the first maxDistinct values
	examples   []string
}

func (s *columnStats) add(seed maphash.Seed, cell string) {
	if strings.TrimSpace(cell) == "" {
		return
	}
	s.filled++
	s.bytes += int64(len(cell))
	s.longest = max(s.longest, len(cell))
	if !s.notNumeric {
		_, err := strconv.ParseFloat(strings.TrimSpace(cell), 64)
		s.notNumeric = err != nil
	}
	if s.more {
		return
	}
	h := maphash.String(seed, cell)
	if _, ok := s.values[h]; ok {
		return
	}
	if len(s.values) == maxDistinct {
		s.more = true
		return
	}
	if s.values == nil {
		s.values = map[uint64]struct{}{}
	}
	s.values[h] = struct{}{}
	if len(s.examples) < maxExamples {
		s.examples = append(s.examples, example(cell))
	}
}

// example shortens a value and takes personal data out of it: the profile is an
// artifact that more people see than the file.
func example(cell string) string {
	var counts pii.Counts
	text := pii.Redact(cell[:min(len(cell), 4*exampleLength)], &counts)
	text = strings.ToValidUTF8(text, "")
	if utf8.RuneCountInString(text) > exampleLength {
		text = string([]rune(text)[:exampleLength]) + "..."
	}
	return text
}

func (s *columnStats) column(name string) Column {
	c := Column{Name: name, Filled: s.filled, Distinct: len(s.values), MoreValues: s.more, MaxBytes: s.longest, Numeric: s.filled > 0 && !s.notNumeric, Examples: s.examples}
	if s.filled > 0 {
		c.MeanBytes = float64(s.bytes) / float64(s.filled)
	}
	return c
}
