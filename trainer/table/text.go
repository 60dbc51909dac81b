package table

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

type textError struct{ code, message, hint string }

// textFault says what is wrong with the bytes of a cell or line, nil if nothing.
func textFault(cell, what string) *textError {
	if i := strings.IndexByte(cell, 0); i >= 0 {
		return &textError{"NUL_BYTE", fmt.Sprintf("byte %d of the %s is zero; text has no zero bytes", i+1, what), "remove them: tr -d '\\000' < FILE > NEW; if every second byte is zero the file is UTF-16: iconv -f UTF-16LE -t UTF-8"}
	}
	if utf8.ValidString(cell) {
		return nil
	}
	for i := 0; i < len(cell); {
		r, size := utf8.DecodeRuneInString(cell[i:])
		if r == utf8.RuneError && size == 1 {
			return &textError{
				"NOT_UTF8",
				fmt.Sprintf("byte %d of the %s is 0x%02X, which is not valid UTF-8%s", i+1, what, cell[i], inLatin1(cell, i)),
				"convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW (or save it as CSV UTF-8 in the spreadsheet)",
			}
		}
		i += size
	}
	return nil
}

// inLatin1 shows the place as it would read if the file were Latin-1.
func inLatin1(cell string, at int) string {
	if cell[at] < 0xA0 {
		return ""
	}
	from, to := max(0, at-12), min(len(cell), at+13)
	var b strings.Builder
	for _, c := range []byte(cell[from:to]) {
		if c < ' ' {
			c = ' '
		}
		b.WriteRune(rune(c))
	}
	return fmt.Sprintf("; in Latin-1 the place reads %q", b.String())
}

// ColumnIndex finds a column by its name, or else by its name in another case.
// field is the config's field that names it, for the error.
func ColumnIndex(columns []string, name, field, file string) (int, error) {
	want := strings.TrimSpace(name)
	other := -1
	for i, c := range columns {
		if c == want {
			return i, nil
		}
		if strings.EqualFold(c, want) {
			if other >= 0 {
				other = -2
				break
			}
			other = i
		}
	}
	if other >= 0 {
		return other, nil
	}
	return 0, &contract.Error{
		Class: contract.ClassBadInput, Code: "MISSING_COLUMN", File: file, Column: name, Field: field,
		Message: fmt.Sprintf("the file has no column of this name; it has: %s", List(columns)),
		Hint:    "set " + field + " to one of them, or leave it empty to have the column found",
	}
}

// List joins names for a message, not more than fit into it.
func List(names []string) string {
	const most = 40
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Quoted puts a label into quotation marks for a message, its beginning if it is long.
func Quoted(label string) string { return strconv.Quote(clip(label)) }
