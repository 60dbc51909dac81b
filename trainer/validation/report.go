package validation

// OutputKey is the key of Report in the stage's output.
const OutputKey = "validation"

// ReportFile is the artifact's name.
const ReportFile = "validation_report.json"

// Codes of findings.
const (
	CodeMissing     = "MISSING_VALUES"
	CodeDuplicates  = "DUPLICATE_ROWS"
	CodeConflicts   = "CONFLICTING_LABELS"
	CodeVariants    = "LABEL_VARIANTS"
	CodeOneClass    = "ONE_CLASS"
	CodeManyClasses = "TOO_MANY_CLASSES"
	CodeRareClass   = "RARE_CLASS"
	CodeImbalance   = "CLASS_IMBALANCE"
	CodeFewRows     = "TOO_FEW_ROWS"
	CodeShort       = "SHORT_TEXTS"
	CodeLong        = "LONG_TEXTS"
	CodeUntidy      = "WHITESPACE"
	CodePII         = "PII_FOUND"
)

// Report is what validation found.
type Report struct {
	Task   string `json:"task"`
	Passed bool   `json:"passed"`
	Rows   int64  `json:"rows"`
	Usable int64  `json:"usable"` // rows with input and target, duplicates left out

	MissingInput  int64 `json:"missing_input"`
	MissingTarget int64 `json:"missing_target"`

	ExactDuplicates      int64 `json:"exact_duplicates"`
	NormalizedDuplicates int64 `json:"normalized_duplicates"` // the same after cleaning, in another case or spacing
	ConflictingLabels    int64 `json:"conflicting_labels"`    // duplicates with another label than the first

	Classes []ClassReport    `json:"classes,omitempty"`
	Length  Lengths          `json:"length"`
	Untidy  int64            `json:"untidy"` // rows with stray white space or invisible characters
	PII     map[string]int64 `json:"pii"`    // places by kind
	PIIRows int64            `json:"pii_rows"`

	Findings []Finding `json:"findings"`
}

// ClassReport is one class.
type ClassReport struct {
	Label    string   `json:"label"`
	Rows     int64    `json:"rows"` // missing texts and duplicates included
	Variants []string `json:"variants,omitempty"`
}

// Lengths of the input in characters. The percentiles are upper bounds within an
// eighth.
type Lengths struct {
	Min  int64   `json:"min"`
	Mean float64 `json:"mean"`
	P50  int64   `json:"p50"`
	P95  int64   `json:"p95"`
	Max  int64   `json:"max"`
}

// Finding is something to know, or what stops the job.
type Finding struct {
	Code    string  `json:"code"`
	Error   bool    `json:"error"` // stops the job
	Message string  `json:"message"`
	Column  string  `json:"column,omitempty"`
	Count   int64   `json:"count"`
	Rows    []int64 `json:"rows,omitempty"` // the first few
	Hint    string  `json:"hint,omitempty"`
}

// exampleRows is how many rows a finding names.
const exampleRows = 5

// examples gathers the first few rows.
type examples []int64

func (e *examples) add(row int64) {
	if len(*e) < exampleRows {
		*e = append(*e, row)
	}
}

// histogram counts lengths in buckets of which eight double the length, so that
// percentiles need no list of all rows.
type histogram struct {
	n, sum, min, max int64
	buckets          [8 * 40]int64
}

func (h *histogram) add(length int64) {
	if h.n == 0 || length < h.min {
		h.min = length
	}
	h.max = max(h.max, length)
	h.n++
	h.sum += length
	h.buckets[bucket(length)]++
}

// bucket maps 0..7 to themselves and above that the leading four bits.
func bucket(length int64) int {
	shift := 0
	for length>>shift >= 16 {
		shift++
	}
	return 8*shift + int(length>>shift)
}

func upper(b int) int64 {
	if b < 16 {
		return int64(b)
	}
	shift := b/8 - 1
	return int64(b-8*shift+1)<<shift - 1
}

func (h *histogram) lengths() Lengths {
	l := Lengths{Min: h.min, Max: h.max}
	if h.n == 0 {
		return l
	}
	l.Mean = float64(h.sum*10/h.n) / 10
	l.P50, l.P95 = h.percentile(0.5), h.percentile(0.95)
	return l
}

func (h *histogram) percentile(p float64) int64 {
	need := int64(p*float64(h.n) + 0.999)
	for b, n := range h.buckets {
		if need -= n; need <= 0 {
			return min(upper(b), h.max)
		}
	}
	return h.max
}
