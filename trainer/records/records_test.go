package records_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/records"
)

func TestAClassIsCalledAsMostRowsSpellIt(t *testing.T) {
	var c records.Classes
	for i, label := range []string{"Feature Request", "feature_request", "bug", "feature_request", "BUG", "Bug"} {
		c.Of(label, int64(i+2))
	}
	if len(c.All) != 2 {
		t.Fatalf("%d classes, want 2", len(c.All))
	}
	if name, others := c.All[0].Name(), c.All[0].Variants(); name != "feature_request" || !slices.Equal(others, []string{"Feature Request"}) {
		t.Errorf("%q, also %q", name, others)
	}
	if name := c.All[1].Name(); name != "BUG" {
		t.Errorf("of three spellings with a row each the first by alphabet is taken, not %q", name)
	}
	if i, ok := c.Index("Bug"); !ok || i != 1 || c.All[1].Rows != 3 || c.All[1].FirstRow != 4 {
		t.Errorf("class %d, %+v", i, c.All[1])
	}
	if _, ok := c.Index("other"); ok {
		t.Error("a label that never came has a class")
	}
}

// read gives all records of a file.
func read(t *testing.T, data, config string, workers int) []records.Record {
	t.Helper()
	in := stagetest.Input(t, "dataset", "x.csv", []byte(data), config)
	r, _, err := stagetest.Run(context.Background(), t, dataset.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	s, err := records.New(stagetest.Next(t, in, r, "validation"))
	if err != nil {
		t.Fatal(err)
	}
	s.Workers = workers
	var all []records.Record
	err = records.Map(context.Background(), s, func(batch []records.Record) ([]records.Record, error) { return batch, nil }, func(batch []records.Record) error {
		all = append(all, batch...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecordsComeInTheOrderOfTheFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("text,label\n")
	const n = 1500
	for i := range n {
		size := 40
		if i%300 == 0 {
			size = 700_000 // two of them fill a batch
		}
		fmt.Fprintf(&b, "%d %s,%d\n", i, strings.Repeat("x", size), i%7)
	}
	for _, workers := range []int{1, 7} {
		all := read(t, b.String(), `{}`, workers)
		if len(all) != n {
			t.Fatalf("%d records, want %d", len(all), n)
		}
		for i, r := range all {
			if r.Index != int64(i) || r.Row != int64(i+2) || !strings.HasPrefix(r.Input, fmt.Sprint(i, " ")) {
				t.Fatalf("in place %d stands index %d row %d %.10q", i, r.Index, r.Row, r.Input)
			}
		}
	}
}

func TestKeysTellDuplicatesAndGroupsKeepThemTogether(t *testing.T) {
	header, rows := "question,answer\n", []string{
		"What is a lamp and why?,A light in the house.",
		"  what is a LAMP and why?,A light  in the house.",
		"What is a lamp and why?,Another answer to it.",
		"What is a hub and why?,A light in the house.",
	}
	qa := read(t, header+strings.Join(rows, "\n")+"\n", `{"task":"qa"}`, 1)
	if qa[0].Key != qa[1].Key || qa[0].Key == qa[2].Key || qa[0].Group != qa[2].Group || qa[0].Group == qa[3].Group {
		t.Error("qa: the same question and answer are one, the same question belongs together")
	}
	if qa[0].Raw == qa[1].Raw || !qa[1].Untidy || qa[0].Untidy {
		t.Error("qa: the second row is the first in another spelling")
	}
	c := read(t, header+strings.Join(rows, "\n")+"\n", `{"text_column":"question","label_column":"answer"}`, 1)
	if c[0].Key != c[2].Key {
		t.Error("classification: the same text with another label is a duplicate")
	}
}

func TestPersonalDataIsCountedAndReplacedOnlyIfAsked(t *testing.T) {
	data := "text,label\nwrite to anna@example.com about the lamp,a\nthe lamp is broken and I want another,b\n"
	for config, want := range map[string]string{
		`{"text_column":"text","label_column":"label"}`:                                "write to [EMAIL] about the lamp",
		`{"text_column":"text","label_column":"label","preprocessing":{"pii":"warn"}}`: "write to anna@example.com about the lamp",
		`{"text_column":"text","label_column":"label","preprocessing":{"pii":"keep"}}`: "write to anna@example.com about the lamp",
	} {
		all := read(t, data, config, 1)
		if all[0].Input != want || all[0].PII.Total() != 1 || all[1].PII.Total() != 0 {
			t.Errorf("%s: %q, %v", config, all[0].Input, all[0].PII)
		}
	}
}
