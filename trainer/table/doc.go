// Package table reads a user's CSV, TSV or JSONL file row by row, in memory that
// does not depend on the file's size, and refuses what cannot be read rightly
// with the row and column it stands in.
//
// CSV is RFC 4180 as encoding/csv understands it, with three differences: the
// delimiter may be a semicolon or a bar as well, a quote within an unquoted cell
// is taken as it is, and every row must have the header's number of cells. The
// scanner is our own because encoding/csv keeps a cell of any size in memory and
// cannot say where a byte is no UTF-8. JSONL is one flat JSON object (RFC 8259)
// a line.
//
// The package knows nothing of tasks or labels: cells are strings.
package table
