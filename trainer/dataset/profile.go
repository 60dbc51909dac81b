package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/table"
)

// OutputKey is the key of Profile in the stage's output.
const OutputKey = "dataset"

// Profile is what is known of the source file.
type Profile struct {
	File    string       `json:"file"`
	Bytes   int64        `json:"bytes"`
	SHA256  string       `json:"sha256"`
	Format  table.Format `json:"format"`
	Rows    int64        `json:"rows"` // data rows
	Columns []Column     `json:"columns"`
	Task    string       `json:"task"`
	Roles   Roles        `json:"roles"`
}

// Column is what is known of a column.
type Column struct {
	Name       string  `json:"name"`
	Filled     int64   `json:"filled"`      // cells that are not empty
	Distinct   int     `json:"distinct"`    // different values; counted to 2,000
	MoreValues bool    `json:"more_values"` // there are more than were counted
	MeanBytes  float64 `json:"mean_bytes"`  // of filled cells
	MaxBytes   int     `json:"max_bytes"`
	Numeric    bool    `json:"numeric"` // every filled cell is a number
	// Examples are the first few values, shortened, with personal data replaced.
	Examples []string `json:"examples,omitempty"`
}

// Roles say which columns the task uses. A column's name is empty where the task
// has none for the role.
type Roles struct {
	Input   Role `json:"input"`
	Target  Role `json:"target"`
	Context Role `json:"context,omitzero"` // qa: the passage; chat: Alpaca's input
	// Messages is set instead of the others if a JSONL column holds conversations.
	Messages Role `json:"messages,omitzero"`
}

// Role is one choice of a column, how sure it is and why.
type Role struct {
	Column     string  `json:"column"`
	Confidence float64 `json:"confidence"` // 1: named in the config
	Why        string  `json:"why"`
}

// nestedColumns are JSONL keys whose value may be an object or a list: messages of a chat,
// and what is to be extracted, where it is no text already.
func nestedColumns(c contract.Config) []string {
	switch {
	case c.Task == "extraction" && c.LabelColumn != "":
		return []string{c.LabelColumn}
	case c.Task == "extraction":
		_, target := taskHints(c.Task)
		return slices.DeleteFunc(slices.Concat(target.strong, target.weak), func(name string) bool { return name == c.TextColumn })
	case c.Task != "chat":
		return nil
	}
	names := conversationNames()
	if c.TextColumn != "" {
		names = append(names, c.TextColumn)
	}
	return names
}

// conversationNames are those of columns that hold lists of messages.
func conversationNames() []string { return []string{"messages", "conversations", "conversation"} }

// advised says of a nested value which setting would read it, where one would: whoever has
// conversations wants them learned, not flattened.
func advised(err error, c contract.Config) error {
	var fault *contract.Error
	if !errors.As(err, &fault) || fault.Code != table.CodeNested {
		return err
	}
	_, target := taskHints("extraction")
	switch name := strings.ToLower(fault.Column); {
	case c.Task == "chat":
		fault.Hint = fmt.Sprintf("if it holds the conversations, name it: --text-column %s, text_column in a job's config; else flatten it: %s", fault.Column, table.Flatten(fault.Column))
	case c.Task == "extraction":
		fault.Hint = fmt.Sprintf("if it is what shall be extracted, name it: --label-column %s, label_column in a job's config; else flatten it: %s", fault.Column, table.Flatten(fault.Column))
	case slices.Contains(conversationNames(), name):
		fault.Hint = `if these are conversations, the task is chat: --task chat, or "task":"chat" in a job's config`
	case slices.Contains(target.strong, name):
		fault.Hint = fmt.Sprintf(`if this is what shall be extracted from the text, the task is extraction: --task extraction, or "task":"extraction" in a job's config; else flatten it: %s`, table.Flatten(fault.Column))
	}
	return err
}

// Options are how this job reads its source file.
func Options(name string, c contract.Config) table.Options {
	o := table.Options{Name: name, Kind: c.Dataset.Format, MaxCellBytes: c.Dataset.MaxCellBytes, MaxRows: c.Dataset.MaxRows, Nested: nestedColumns(c), Canonical: c.Task == "extraction"}
	if o.Kind == "auto" {
		o.Kind = ""
	}
	return o
}

// Open opens the source file again, as the profile found it. The closer is the
// file.
func (p Profile) Open(in contract.Input, c contract.Config) (table.Reader, io.Closer, error) {
	source, err := in.Source()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(source.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("open dataset: %w", err)
	}
	o := Options(source.Name, c)
	o.Kind, o.Delimiter = p.Format.Kind, p.Format.Delimiter
	rows, err := table.Open(f, o)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return rows, f, nil
}

// Config reads and checks the job's config for a stage.
func Config(in contract.Input) (contract.Config, error) {
	c, err := contract.ParseConfig(in.Config, false)
	var faults []contract.FieldError
	if err == nil {
		c = c.WithDefaults()
		faults = c.Validate()
	} else {
		var fault contract.FieldError
		if !errors.As(err, &fault) {
			return c, &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Message: err.Error()}
		}
		faults = append(faults, fault)
	}
	if len(faults) == 0 {
		return c, nil
	}
	message := faults[0].Message
	for _, f := range faults[1:] {
		message += "; " + f.Error()
	}
	return c, &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Message: message, Field: faults[0].Field}
}
