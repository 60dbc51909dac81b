package table_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/table"
)

func TestRealFilesAreRead(t *testing.T) {
	want := [][]string{{"Grüße, 😀", "a"}, {"two\nlines", "b"}, {"say \"hi\"", ""}}
	for name, data := range map[string]string{
		"LF":                  "text,label\n\"Grüße, 😀\",a\n\"two\nlines\",b\n\"say \"\"hi\"\"\",\n",
		"CRLF":                "text,label\r\n\"Grüße, 😀\",a\r\n\"two\r\nlines\",b\r\n\"say \"\"hi\"\"\",\r\n",
		"BOM":                 "\xEF\xBB\xBF\"text\",label\n\"Grüße, 😀\",\"a\"\n\"two\nlines\",b\n\"say \"\"hi\"\"\",\n",
		"Excel's separator":   "sep=;\r\ntext;label\r\n\"Grüße, 😀\";a\r\n\"two\r\nlines\";b\r\n\"say \"\"hi\"\"\";\r\n",
		"no last LF":          "text,label\n\"Grüße, 😀\",a\n\"two\nlines\",b\n\"say \"\"hi\"\"\",",
		"semicolons":          "text;label\n\"Grüße, 😀\";a\n\"two\nlines\";b\n\"say \"\"hi\"\"\";\n",
		"tabs":                "text\tlabel\n\"Grüße, 😀\"\ta\n\"two\nlines\"\tb\n\"say \"\"hi\"\"\"\t\n",
		"bars":                "text|label\nGrüße, 😀|a\n\"two\nlines\"|b\nsay \"hi\"|\n",
		"empty lines":         "\n\ntext,label\n\n\"Grüße, 😀\",a\n\r\n\"two\nlines\",b\n\"say \"\"hi\"\"\",\n\n",
		"spaced header":       " text ,label \n\"Grüße, 😀\",a\n\"two\nlines\",b\n\"say \"\"hi\"\"\",\n",
		"JSONL":               "{\"text\":\"Gr\\u00fc\\u00dfe, \\ud83d\\ude00\",\"label\":\"a\"}\n\n{\"label\":\"b\", \"text\":\"two\\nlines\"}\r\n{\"text\":\"say \\\"hi\\\"\",\"label\":null}",
		"JSONL, key left out": "{\"text\":\"Grüße, 😀\",\"label\":\"a\"}\n{\"label\":\"b\", \"text\":\"two\\nlines\"}\n{\"text\":\"say \\\"hi\\\"\"}",
	} {
		for _, r := range []io.Reader{strings.NewReader(data), iotest.OneByteReader(strings.NewReader(data)), iotest.DataErrReader(strings.NewReader(data))} {
			in, err := table.Open(r, table.Options{Name: "x"})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := in.Columns(); !reflect.DeepEqual(got, []string{"text", "label"}) {
				t.Errorf("%s: columns %q", name, got)
			}
			var rows [][]string
			for row, err := in.Next(); err != io.EOF; row, err = in.Next() {
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				rows = append(rows, append([]string(nil), row...))
			}
			if !reflect.DeepEqual(rows, want) {
				t.Errorf("%s: rows %q, want %q", name, rows, want)
			}
			if in.Offset() != int64(len(data)) {
				t.Errorf("%s: offset %d of %d at the end", name, in.Offset(), len(data))
			}
		}
	}
}

func TestExcelsSeparatorMayBeATab(t *testing.T) {
	for _, kind := range []string{"", table.TSV} {
		rows, err := drain(strings.NewReader("sep=\t\na\tb\n1\t2\n"), table.Options{Kind: kind})
		if err != nil || !reflect.DeepEqual(rows, [][]string{{"1", "2"}}) {
			t.Errorf("kind %q: %q, %v", kind, rows, err)
		}
	}
	if _, err := drain(strings.NewReader("sep=;\na;b\n1;2;3\n"), table.Options{}); contract.AsError(err).Row != 2 || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("the row's line counts the separator's: %v", err)
	}
}

func TestRowCountsRecordsAndLineCountsLines(t *testing.T) {
	in, err := table.Open(strings.NewReader("a,b\n\"1\n2\n3\",x\n\n4,y\n"), table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][2]int64{{2, 2}, {3, 6}} {
		if _, err := in.Next(); err != nil || in.Row() != want[0] || in.Line() != want[1] {
			t.Errorf("row %d line %d, want %v (%v)", in.Row(), in.Line(), want, err)
		}
	}
}

func TestJSONLValuesBecomeText(t *testing.T) {
	same, err := drain(strings.NewReader(`{"m":{"b":[1.50, {"z":"<é>\n","a":null}] ,"a":1e400}}`), table.Options{Nested: []string{"m"}, Canonical: true})
	if err != nil || len(same) != 1 || same[0][0] != `{"a":1e400,"b":[1.50,{"a":null,"z":"<é>\n"}]}` {
		t.Errorf("%q, %v", same, err)
	}
	rows, err := drain(strings.NewReader(`{"s":"x","n":-1.5e3,"t":true,"z":null,"m":[{"role":"user"}]}`), table.Options{Nested: []string{"m"}})
	if want := [][]string{{"x", "-1.5e3", "true", "", `[{"role":"user"}]`}}; err != nil || !reflect.DeepEqual(rows, want) {
		t.Errorf("%q, %v, want %q", rows, err, want)
	}
}

func TestAnErrorOfTheDiskIsNotTheUsersFault(t *testing.T) {
	_, err := drain(io.MultiReader(strings.NewReader("a,b\n1,2\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), table.Options{})
	if contract.AsError(err).Class != contract.ClassInternal {
		t.Errorf("got %v", err)
	}
}

var anyCell = rapid.StringMatching(`[ab ,;"\n\rü😀]{0,6}`)

// What encoding/csv writes or reads, we read the same.
func TestCSVAgreesWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "columns")
		comma := rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(t, "comma")
		rows := rapid.SliceOfN(rapid.SliceOfN(anyCell, n, n), 1, 20).Draw(t, "rows")
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		w.Comma, w.UseCRLF = comma, rapid.Bool().Draw(t, "crlf")
		header := make([]string, n)
		for i := range header {
			header[i] = fmt.Sprintf("c%d", i)
		}
		if err := w.WriteAll(append([][]string{header}, rows...)); err != nil {
			t.Fatal(err)
		}
		compareWithOracle(t, buf.Bytes(), byte(comma))
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// compareWithOracle fails if encoding/csv reads data and we read something else.
// It returns what the oracle read, nil where it refuses.
func compareWithOracle(t fataler, data []byte, comma byte) {
	oracle := csv.NewReader(bytes.NewReader(data))
	oracle.Comma = rune(comma)
	want, err := oracle.ReadAll()
	if err != nil || len(want) < 2 {
		return
	}
	rows, err := drain(bytes.NewReader(data), table.Options{Kind: table.CSV, Delimiter: string(comma)})
	if err != nil {
		switch contract.AsError(err).Code {
		case "NOT_UTF8", "NUL_BYTE", "DUPLICATE_COLUMN", "EMPTY_COLUMN_NAME", "UTF16", "UNSUPPORTED_FORMAT", "CR_LINE_ENDS", "EMPTY_FILE":
			return // stricter on purpose
		}
		t.Fatalf("encoding/csv reads %q, we refuse it: %v", data, err)
	}
	if !reflect.DeepEqual(rows, want[1:]) {
		t.Fatalf("of %q we read\n%q, encoding/csv\n%q", data, rows, want[1:])
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("text,label\n\"a\r\nb\",\"say \"\"hi\"\"\"\n\n1,2"), byte(','))
	f.Add([]byte("a\tb\nGr\xFC\xDFe\tx\n\"open"), byte('\t'))
	f.Add([]byte("\xEF\xBB\xBFa;b\n1;2;3\n"), byte(';'))
	f.Fuzz(func(t *testing.T, data []byte, comma byte) {
		if comma != ';' && comma != '\t' && comma != '|' {
			comma = ','
		}
		if _, err := drain(bytes.NewReader(data), table.Options{MaxCellBytes: 1 << 16}); err != nil && contract.AsError(err).Class != contract.ClassBadInput {
			t.Fatalf("an error of bytes that is not the user's: %v", err)
		}
		if !bytes.HasPrefix(data, []byte("\xEF\xBB\xBF")) {
			compareWithOracle(t, data, comma)
		}
	})
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte("{\"text\":\"a\\u00fc\",\"n\":-1.5e3}\n\n{\"n\":true,\"text\":null}\r\n{\"text\":"))
	f.Add([]byte(`{"a":{"b":[1]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := drain(bytes.NewReader(data), table.Options{Kind: table.JSONL, MaxCellBytes: 1 << 16}); err != nil && contract.AsError(err).Class != contract.ClassBadInput {
			t.Fatalf("an error of bytes that is not the user's: %v", err)
		}
		// One line alone is accepted if and only if encoding/json finds a flat object.
		line, _, _ := bytes.Cut(data, []byte{'\n'})
		if len(bytes.TrimSpace(line)) == 0 || bytes.HasPrefix(data, []byte("\xEF\xBB\xBF")) || len(line) > 1<<15 {
			return
		}
		rows, err := drain(bytes.NewReader(line), table.Options{Kind: table.JSONL})
		var object map[string]any
		jsonErr := json.Unmarshal(line, &object)
		if err == nil && (jsonErr != nil || object == nil) {
			t.Fatalf("we read %q, encoding/json does not: %v", line, jsonErr)
		}
		if err == nil && len(rows) == 1 && len(rows[0]) != len(object) {
			t.Fatalf("of %q we read %d keys, encoding/json %d", line, len(rows[0]), len(object))
		}
		if err != nil && jsonErr == nil && object != nil {
			switch code := contract.AsError(err).Code; code {
			case "NESTED_VALUE", "NUL_BYTE", "NOT_UTF8", "DUPLICATE_COLUMN", "NO_COLUMNS", "UTF16", "UNSUPPORTED_FORMAT", "TOO_MANY_COLUMNS":
			default:
				t.Fatalf("encoding/json reads %q, we refuse it: %v", line, err)
			}
		}
	})
}

// repeater gives head once and then row again and again, n times.
type repeater struct {
	head, row string
	n         int
	rest      string
}

func (r *repeater) Read(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		if r.rest == "" {
			switch {
			case r.head != "":
				r.rest, r.head = r.head, ""
			case r.n == 0:
				if total == 0 {
					return 0, io.EOF
				}
				return total, nil
			default:
				r.rest = r.row
				r.n--
			}
		}
		n := copy(p[total:], r.rest)
		r.rest = r.rest[n:]
		total += n
	}
	return total, nil
}

func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	peak := func(rows int) uint64 {
		in, err := table.Open(&repeater{head: "text,label\n", row: "\"where is my order, please?\nthanks\",shipping\n", n: rows}, table.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var worst uint64
		for i := 0; ; i++ {
			if _, err := in.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if i%20_000 == 0 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				worst = max(worst, m.HeapAlloc)
			}
		}
		return worst
	}
	small, large := peak(50_000), peak(500_000)
	if large > small+1<<20 {
		t.Errorf("500,000 rows need %d bytes of heap, 50,000 need %d", large, small)
	}
}

const (
	plainRow  = "T-020001,2026-03-02T09:14:00Z,Anna Brown,web,Where is my order,I ordered a lamp two weeks ago and it still has not been sent. Please check.,shipping\n"
	quotedRow = "T-020001,2026-03-02T09:14:00Z,Anna Brown,web,Where is my order,\"Hello, I ordered a lamp two weeks ago,\nand it still has not been sent. Please check.\",shipping\n"
	jsonRow   = `{"id":"T-020001","created":"2026-03-02T09:14:00Z","subject":"Where is my order","body":"I ordered a lamp two weeks ago and it still has not been sent.\nPlease check.","category":"shipping"}` + "\n"
)

func BenchmarkRead(b *testing.B) {
	for _, c := range []struct{ name, head, row string }{
		{"csv-plain", "id,created,customer,channel,subject,body,category\n", plainRow},
		{"csv-quoted", "id,created,customer,channel,subject,body,category\n", quotedRow},
		{"jsonl", "", jsonRow},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.row)))
			b.ReportAllocs()
			in, err := table.Open(&repeater{head: c.head, row: c.row, n: b.N}, table.Options{MaxRows: 1 << 40})
			if err != nil {
				b.Fatal(err)
			}
			for {
				if _, err := in.Next(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
