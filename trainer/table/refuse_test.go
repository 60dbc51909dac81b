package table_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/table"
)

// drain reads all rows and returns a copy of them.
func drain(r io.Reader, o table.Options) ([][]string, error) {
	t, err := table.Open(r, o)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for {
		row, err := t.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, append([]string(nil), row...))
	}
}

func TestANestedValueIsRefusedWithACommandThatFlattensIt(t *testing.T) {
	_, err := drain(strings.NewReader("{\"a b\":{\"id\":1}}\n"), table.Options{Name: "a.jsonl"})
	if err == nil || !strings.Contains(contract.AsError(err).Hint, `.["a b"] |= tostring`) {
		t.Errorf("%+v", err)
	}
}

func TestWhatCannotBeReadIsRefusedWithItsPlace(t *testing.T) {
	utf16 := "\xFF\xFEt\x00e\x00x\x00t\x00"
	for _, c := range []struct {
		name, file, data string
		code             string
		row              int64
		column           string
		message          string // a part of it
	}{
		{"Latin-1 in a cell", "a.csv", "text,label\nhello,a\nschöne ,b\nGr\xFC\xDFe aus K\xF6ln,c\n", "NOT_UTF8", 4, "text", `byte 3 of the cell is 0xFC, which is not valid UTF-8; in Latin-1 the place reads "Grüße aus Köln"`},
		{"Latin-1 in the header", "a.csv", "text,Gr\xF6\xDFe\nhello,a\n", "NOT_UTF8", 1, "", "in the name of column 2"},
		{"Latin-1 in a quoted cell", "a.csv", "text,label\n\"caf\xE9, closed\",a\n", "NOT_UTF8", 2, "text", "byte 4"},
		{"UTF-16 with a mark", "a.csv", utf16, "UTF16", 0, "", "UTF-16"},
		{"UTF-16 without a mark", "a.csv", utf16[2:], "UTF16", 0, "", "UTF-16"},
		{"open quote at the end", "a.csv", "text,label\nhello,a\n\"cut off,b\n", "TRUNCATED", 3, "text", "opens on line 3"},
		{"open quote in the second column after line breaks", "a.csv", "text,label\n\"a\nb\",x\nhello,\"cut\noff", "TRUNCATED", 3, "label", "opens on line 4"},
		{"cut off in the last row", "a.csv", "text,label\nhello,a\nhel", "RAGGED_ROW", 3, "", "the row has 1 cells, the header has 2"},
		{"too few cells", "a.csv", "a,b,c\n1,2,3\n1,2\n1,2,3\n", "RAGGED_ROW", 3, "", "2 cells"},
		{"too many cells", "a.csv", "a,b\n1,2\n\n1,2,3\n", "RAGGED_ROW", 3, "", "(the row starts on line 4)"},
		{"empty", "a.csv", "", "EMPTY_FILE", 0, "", "empty"},
		{"whitespace only", "a.csv", " \n\r\n", "EMPTY_FILE", 0, "", "whitespace"},
		{"a mark and nothing", "a.csv", "\xEF\xBB\xBF", "EMPTY_FILE", 0, "", ""},
		{"header only", "a.csv", "text,label\n", "NO_ROWS", 1, "", "no data rows"},
		{"header only without line break", "a.csv", "text,label", "NO_ROWS", 1, "", "no data rows"},
		{"two columns of one name", "a.csv", "text,label, text\n1,2,3\n", "DUPLICATE_COLUMN", 1, "text", "columns 1 and 3"},
		{"a column without name", "a.csv", "text,,label\n1,2,3\n", "EMPTY_COLUMN_NAME", 1, "", "column 2 of 3"},
		{"zero byte", "a.csv", "text,label\nhello,a\nhel\x00lo,b\n", "NUL_BYTE", 3, "text", "byte 4 of the cell"},
		{"text behind a closing quote", "a.csv", "text,label\n\"say \"hello\" now\",a\n", "BAD_QUOTE", 2, "text", `'h' follows the quote`},
		{"old Macintosh", "a.csv", "text,label\rhello,a\rbye,b\r", "CR_LINE_ENDS", 0, "", "CR alone"},
		{"Excel", "a.csv", "PK\x03\x04rest", "UNSUPPORTED_FORMAT", 0, "", "Excel"},
		{"gzip", "a.csv.gz", "\x1F\x8B\x08rest", "UNSUPPORTED_FORMAT", 0, "", "gzip"},
		{"JSON array", "a.json", "[{\"text\":\"a\"}]", "UNSUPPORTED_FORMAT", 0, "", "array"},

		{"half an object at the end", "a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"lab", "TRUNCATED", 2, "", "ends inside a JSON object"},
		{"half a text at the end", "a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n\n{\"text\":\"b", "TRUNCATED", 2, "text", "(line 3)"},
		{"half an object in the middle", "a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\n{\"text\":\"a\"}\n", "BAD_JSON", 2, "text", "the line ends inside"},
		{"no object", "a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n[1,2]\n", "NOT_AN_OBJECT", 2, "", "an array"},
		{"a number", "a.jsonl", "{\"text\":\"a\"}\n12\n", "NOT_AN_OBJECT", 2, "", "a number"},
		{"nested object", "a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":{\"id\":1}}\n", "NESTED_VALUE", 2, "label", "an object"},
		{"nested array", "a.jsonl", "{\"text\":[\"a\"],\"label\":\"x\"}\n", "NESTED_VALUE", 1, "text", "an array"},
		{"bad number", "a.jsonl", "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\",\"n\":01}\n", "BAD_JSON", 2, "n", `character 18`},
		{"trailing comma", "a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\",}\n", "BAD_JSON", 2, "text", "character 13"},
		{"single quotes", "a.jsonl", "{\"text\":\"a\"}\n{'text':'b'}\n", "BAD_JSON", 2, "", "character 2"},
		{"two objects in a line", "a.jsonl", "{\"text\":\"a\"} {\"text\":\"b\"}\n", "BAD_JSON", 1, "", "behind the object"},
		{"key twice", "a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"a\",\"text\":\"b\"}\n", "DUPLICATE_COLUMN", 2, "text", "twice"},
		{"Latin-1 in JSON", "a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"caf\xE9\"}\n", "NOT_UTF8", 2, "text", "0xE9"},
		{"zero byte in JSON", "a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"\\u0000\"}\n", "NUL_BYTE", 2, "text", "zero byte"},
		{"no keys", "a.jsonl", "{}\n{}\n", "NO_COLUMNS", 2, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := drain(strings.NewReader(c.data), table.Options{Name: c.file})
			var fault *contract.Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a *contract.Error", err)
			}
			if fault.Class != contract.ClassBadInput || fault.Code != c.code || fault.Row != c.row || fault.Column != c.column || fault.File != c.file {
				t.Errorf("got %s %s row %d column %q file %q, want bad_input %s row %d column %q", fault.Class, fault.Code, fault.Row, fault.Column, fault.File, c.code, c.row, c.column)
			}
			if !strings.Contains(fault.Message, c.message) {
				t.Errorf("message %q lacks %q", fault.Message, c.message)
			}
			if fault.Hint == "" {
				t.Errorf("no hint what to do about %q", fault.Message)
			}
		})
	}
}

// endless gives prefix and then one byte for ever, and counts what was read.
type endless struct {
	prefix string
	n      int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.prefix)
	e.prefix = e.prefix[n:]
	for i := n; i < len(p); i++ {
		p[i] = 'x'
	}
	e.n += int64(len(p))
	return len(p), nil
}

func TestAnEndlessCellIsRefusedBeforeItIsRead(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name, prefix string
		row          int64
		column       string
	}{
		{"unquoted", "text,label\na,b\nc,", 3, "label"},
		{"quoted", "text,label\na,b\n\"c", 3, "text"},
		{"JSON", "{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"a\",\"label\":\"", 2, "label"},
		{"JSON, first row", "{\"text\":\"a\",\"label\":\"", 1, "label"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := &endless{prefix: c.prefix}
			_, err := drain(src, table.Options{Name: "big", MaxCellBytes: limit})
			fault := contract.AsError(err)
			if fault.Code != "CELL_TOO_LARGE" || fault.Row != c.row || fault.Column != c.column {
				t.Errorf("got %v", err)
			}
			if src.n > 6*limit {
				t.Errorf("read %d bytes to refuse a cell of more than %d", src.n, limit)
			}
		})
	}
}

func TestACellAtItsLimitIsRead(t *testing.T) {
	cell := strings.Repeat("x", 10<<20)
	for _, data := range []string{"text,label\n" + cell + ",a\n", "text,label\n\"" + cell + "\",a\n", `{"text":"` + cell + `","label":"a"}` + "\n"} {
		rows, err := drain(strings.NewReader(data), table.Options{MaxCellBytes: 10 << 20})
		if err != nil || len(rows) != 1 || len(rows[0][0]) != len(cell) || rows[0][1] != "a" {
			t.Fatalf("%.20q: %d rows, %v", data, len(rows), err)
		}
		if _, err := drain(strings.NewReader(data), table.Options{MaxCellBytes: 10<<20 - 1}); contract.AsError(err).Code != "CELL_TOO_LARGE" {
			t.Fatalf("%.20q: one byte beyond the limit: %v", data, err)
		}
	}
}

func TestRowsAndColumnsHaveLimits(t *testing.T) {
	if _, err := drain(strings.NewReader("a\n1\n2\n3\n"), table.Options{MaxRows: 2}); contract.AsError(err).Code != "TOO_MANY_ROWS" || contract.AsError(err).Row != 4 {
		t.Errorf("a third row of two: %v", err)
	}
	for _, data := range []string{strings.Repeat("a,", 10_001) + "a\n", strings.Repeat("\"a\",", 400_000)} {
		if _, err := drain(strings.NewReader(data), table.Options{}); contract.AsError(err).Code != "TOO_MANY_COLUMNS" {
			t.Errorf("a header of too many columns: %v", err)
		}
	}
	if _, err := drain(strings.NewReader("a,b\n"+strings.Repeat("\"\",", 400_000)), table.Options{}); contract.AsError(err).Code != "RAGGED_ROW" || contract.AsError(err).Row != 2 {
		t.Errorf("a row of too many cells: %v", err)
	}
}

func TestMissingColumnSaysWhichThereAre(t *testing.T) {
	columns := []string{"Body", "category"}
	if i, err := table.ColumnIndex(columns, "body", "text_column", "a.csv"); err != nil || i != 0 {
		t.Errorf("in another case: %d, %v", i, err)
	}
	_, err := table.ColumnIndex(columns, "label", "label_column", "a.csv")
	fault := contract.AsError(err)
	if fault.Code != "MISSING_COLUMN" || fault.Column != "label" || fault.Field != "label_column" || !strings.Contains(fault.Message, "Body, category") {
		t.Errorf("got %+v", fault)
	}
}
