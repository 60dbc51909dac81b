package table

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
)

var utf8BOM = []byte("\xEF\xBB\xBF")

// magics are the first bytes of files that people upload in place of a table.
var magics = []struct{ magic, name, hint string }{
	{"PK\x03\x04", "a ZIP archive or an Excel workbook", "open it in a spreadsheet and save it as CSV (UTF-8)"},
	{"\xD0\xCF\x11\xE0", "an old Excel workbook", "open it in a spreadsheet and save it as CSV (UTF-8)"},
	{"\x1F\x8B", "gzip-compressed", "decompress it: gunzip FILE"},
	{"\x28\xB5\x2F\xFD", "zstd-compressed", "decompress it: zstd -d FILE"},
	{"PAR1", "Parquet", "export it as CSV or JSONL"},
	{"%PDF", "a PDF document", "the data must be a table: CSV, TSV or JSONL"},
	{"SQLite format 3", "an SQLite database", "export the table as CSV: sqlite3 -header -csv FILE 'select * from TABLE'"},
}

// detect finds the format from the start of a file, which is all of it if whole
// is set. The content decides; the name breaks ties.
func detect(head []byte, whole bool, o Options) (Format, error) {
	var f Format
	if len(head) == 0 {
		return f, fault(o, "EMPTY_FILE", "the file is empty", "upload a file with a header row and data rows")
	}
	if bytes.HasPrefix(head, []byte("\xFF\xFE")) || bytes.HasPrefix(head, []byte("\xFE\xFF")) {
		return f, fault(o, "UTF16", "the file is UTF-16, as its first two bytes say; it must be UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return f, fault(o, "UNSUPPORTED_FORMAT", "the file is "+m.name+", not CSV, TSV or JSONL", m.hint)
		}
	}
	if bytes.HasPrefix(head, utf8BOM) {
		f.BOM = true
		head = head[len(utf8BOM):]
	}
	text := bytes.TrimLeft(head, " \t\r\n")
	if len(text) == 0 && whole {
		return f, fault(o, "EMPTY_FILE", "the file holds nothing but whitespace", "upload a file with a header row and data rows")
	}
	if n := bytes.Count(head, []byte{0}); n > len(head)/4 {
		return f, fault(o, "UTF16", "every second byte or so is zero: the file seems to be UTF-16 or UTF-32 without a byte order mark; it must be UTF-8", "convert it: iconv -f UTF-16LE -t UTF-8 FILE > NEW")
	}
	f.Kind = o.Kind
	if f.Kind == "" || f.Kind == "auto" {
		f.Kind = ""
		switch {
		case text[0] == '{' && looksLikeJSONL(text, o.Name):
			f.Kind = JSONL
		case text[0] == '[' && looksLikeArray(text, whole, o.Name):
			return f, fault(o, "UNSUPPORTED_FORMAT", "the file is one JSON array; rows must stand alone, one JSON object a line", "convert it: jq -c '.[]' FILE > NEW.jsonl")
		case hasExtension(o.Name, ".jsonl", ".ndjson"):
			f.Kind = JSONL
		}
	}
	if f.Kind == JSONL {
		return f, nil
	}
	if !bytes.Contains(head, []byte{'\n'}) && bytes.Count(bytes.TrimRight(head, "\r"), []byte{'\r'}) > 0 {
		return f, fault(o, "CR_LINE_ENDS", "the lines end in CR alone, as on old Macintoshes", "convert it: tr '\\r' '\\n' < FILE > NEW")
	}
	if n := separatorLine(head); n > 0 && (f.Kind != TSV || head[len("sep=")] == '\t') {
		f.separatorLine = n
		o.Delimiter = string(head[len("sep=")])
		if o.Delimiter == "\t" {
			f.Kind = TSV
		}
	}
	return delimiter(head, f, o), nil
}

// separatorLine is the length of a first line like "sep=;", with which Excel says
// what delimits the cells; 0 if there is none.
func separatorLine(head []byte) int {
	line, _, found := bytes.Cut(head, []byte{'\n'})
	trimmed := bytes.TrimSuffix(line, []byte{'\r'})
	if !found || len(trimmed) != len("sep=;") || !bytes.EqualFold(trimmed[:4], []byte("sep=")) || !bytes.ContainsAny(trimmed[4:], ",;|\t") {
		return 0
	}
	return len(line) + 1
}

// looksLikeJSONL tells {"a":1} from a CSV header that starts with a brace.
func looksLikeJSONL(text []byte, name string) bool {
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	if json.Valid(line) {
		return true
	}
	rest := bytes.TrimLeft(text[1:], " \t\r\n")
	return hasExtension(name, ".jsonl", ".ndjson", ".json") || (len(rest) > 0 && (rest[0] == '"' || rest[0] == '}') && bytes.Contains(line, []byte(`":`)))
}

func looksLikeArray(text []byte, whole bool, name string) bool {
	rest := bytes.TrimLeft(text[1:], " \t\r\n")
	return hasExtension(name, ".json") || (len(rest) > 0 && rest[0] == '{') || (whole && json.Valid(text))
}

func hasExtension(name string, known ...string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	for _, e := range known {
		if ext == e {
			return true
		}
	}
	return false
}

// delimiter tries each candidate on the first records and takes the one with the
// most columns of those whose records agree best.
func delimiter(head []byte, f Format, o Options) Format {
	if f.Kind == TSV {
		f.Delimiter = "\t"
		return f
	}
	if len(o.Delimiter) == 1 {
		f.Kind, f.Delimiter = CSV, o.Delimiter
		return f
	}
	candidates := []byte{',', ';', '\t', '|'}
	if f.Kind == CSV {
		candidates = []byte{',', ';', '|'}
	} else if hasExtension(o.Name, ".tsv", ".tab") {
		candidates = []byte{'\t', ',', ';', '|'}
	}
	best, bestScore := candidates[0], 0.0
	for _, c := range candidates {
		if s := score(head, c); s > bestScore {
			best, bestScore = c, s
		}
	}
	f.Kind, f.Delimiter = CSV, string(best)
	if best == '\t' {
		f.Kind = TSV
	}
	return f
}

// score is the share of the first records that have the first one's number of
// cells, with a little for more of them; 0 if that is one.
func score(head []byte, comma byte) float64 {
	const records = 30
	var counts []int
	cells, quoted, start := 1, false, true
	for i := 0; i < len(head) && len(counts) < records; i++ {
		switch b := head[i]; {
		case b == '"' && (quoted || start):
			quoted, start = !quoted, false
		case quoted:
		case b == comma:
			cells++
			start = true
		case b == '\n':
			counts = append(counts, cells)
			cells, start = 1, true
		default:
			start = false
		}
	}
	if len(counts) == 0 {
		counts = append(counts, cells)
	}
	if counts[0] == 1 {
		return 0
	}
	same := 0
	for _, n := range counts {
		if n == counts[0] {
			same++
		}
	}
	return float64(same)/float64(len(counts)) + 0.001*float64(min(counts[0], 100))
}
