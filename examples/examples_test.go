package examples_test

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/examples"
	"github.com/tunemesh/tunemesh/examples/tickets"
)

func TestTheCommittedFileIsWhatTheGeneratorMakes(t *testing.T) {
	var buf bytes.Buffer
	if err := tickets.WriteCSV(&buf, tickets.Dataset(tickets.Seed, tickets.Rows)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes(), examples.SupportTickets) {
		t.Fatal("support-tickets.csv is not what the generator makes: run go generate ./examples")
	}
}

func TestTheFileHasRowsClassesAndDirt(t *testing.T) {
	rows, err := csv.NewReader(bytes.NewReader(examples.SupportTickets)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:]
	if len(rows) < 1500 {
		t.Errorf("%d rows, want at least 1,500", len(rows))
	}
	classes, bodies := map[string]int{}, map[string]int{}
	missing, multiline, variants := 0, 0, 0
	for _, row := range rows {
		body, label := row[5], row[6]
		classes[label]++
		bodies[body]++
		if strings.TrimSpace(body) == "" || strings.TrimSpace(label) == "" {
			missing++
		} else if !slices.Contains(tickets.Categories(), label) {
			variants++
		}
		if strings.Contains(strings.TrimSpace(body), "\n") {
			multiline++
		}
	}
	for _, c := range tickets.Categories() {
		if classes[c] < 100 {
			t.Errorf("%d rows of %s, want at least 100", classes[c], c)
		}
	}
	if missing < 20 || multiline < 50 || variants < 30 || len(rows)-len(bodies) < 30 {
		t.Errorf("too clean: %d missing, %d with line breaks, %d label variants, %d exact repeats", missing, multiline, variants, len(rows)-len(bodies))
	}
}

func TestPersonalDataIsInvented(t *testing.T) {
	text := string(examples.SupportTickets)
	mails := regexp.MustCompile(`[\w.+-]+@[\w.-]+\w`).FindAllString(text, -1)
	phones := regexp.MustCompile(`\d{3}\)?[ -]\d{3}[ -]\d{4}`).FindAllString(text, -1)
	if len(mails) < 20 || len(phones) < 20 {
		t.Errorf("%d addresses, %d phone numbers: too few for the redaction to show", len(mails), len(phones))
	}
	for _, m := range mails {
		if !regexp.MustCompile(`(?i)example\.(com|org|net)$`).MatchString(m) {
			t.Errorf("%s is not of a reserved domain", m)
		}
	}
	for _, p := range phones {
		if !regexp.MustCompile(`555[ -]01\d\d$`).MatchString(p) {
			t.Errorf("%s is not of the reserved range 555-01xx", p)
		}
	}
}

func TestCorpusHasNoLabelsAndOtherTexts(t *testing.T) {
	var buf bytes.Buffer
	if err := tickets.WriteCorpus(&buf, tickets.Seed+1, 500); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
	if len(lines) != 500 {
		t.Fatalf("%d lines, want 500", len(lines))
	}
	same := 0
	for _, line := range lines {
		if bytes.Contains(examples.SupportTickets, []byte(line)) {
			same++
		}
	}
	if same > 25 {
		t.Errorf("%d of 500 lines stand in the data set as well", same)
	}
}
