package sample

import "fmt"

// File names of the splits, as preprocessing's artifacts.
const (
	TrainFile      = "train.jsonl"
	ValidationFile = "validation.jsonl"
	TestFile       = "test.jsonl"
)

// OutputKey is the key of Summary in the output of preprocessing.
const OutputKey = "preprocessing"

// Reasons for which a row is not in any split, the keys of Summary.Dropped.
const (
	DroppedMissing   = "missing"   // text or target is empty
	DroppedDuplicate = "duplicate" // the same text came earlier
	DroppedTooLong   = "too_long"  // prompt and answer do not fit into max_tokens
	DroppedNoLoss    = "no_loss"   // nothing would be learnt: no token carries loss
)

// Sample is one example, ready for a model.
type Sample struct {
	Row    int64  `json:"row"`    // record of the source file, from 1 with the header as 1
	Input  string `json:"input"`  // cleaned input text
	Target string `json:"target"` // cleaned target: the label, the answer
	// Tokens holds the whole sequence: prompt, answer and end of turn.
	Tokens []int32 `json:"tokens"`
	// Loss holds half-open ranges of Tokens that carry loss, ascending and
	// without overlap. The token at i is predicted from those before it.
	Loss [][2]int `json:"loss"`
	// PromptTokens is the length of the prompt: Tokens[:PromptTokens] is what a
	// model gets when it shall answer.
	PromptTokens int `json:"prompt_tokens"`
}

// LossTokens is the number of tokens that carry loss.
func (s *Sample) LossTokens() int {
	n := 0
	for _, r := range s.Loss {
		n += r[1] - r[0]
	}
	return n
}

// Check says whether the ranges lie within the tokens.
func (s *Sample) Check() error {
	end := 0
	for _, r := range s.Loss {
		if r[0] < end || r[1] < r[0] || r[1] > len(s.Tokens) {
			return fmt.Errorf("sample of row %d: loss range [%d,%d) is out of order or beyond its %d tokens", s.Row, r[0], r[1], len(s.Tokens))
		}
		end = r[1]
	}
	if s.PromptTokens < 0 || s.PromptTokens > len(s.Tokens) {
		return fmt.Errorf("sample of row %d: prompt of %d tokens in %d tokens", s.Row, s.PromptTokens, len(s.Tokens))
	}
	return nil
}

// Summary is the output of preprocessing under OutputKey.
type Summary struct {
	Task        string   `json:"task"`
	InputColumn string   `json:"input_column"`
	LabelColumn string   `json:"label_column,omitempty"`
	Labels      []string `json:"labels,omitempty"` // classification: sorted, as they stand in Target

	Rows       int64 `json:"rows"` // data rows of the source file
	Train      int64 `json:"train"`
	Validation int64 `json:"validation"`
	Test       int64 `json:"test"`

	MaxTokens       int    `json:"max_tokens"`   // of the longest sample that was kept
	TokenLimit      int    `json:"token_limit"`  // a longer sample was dropped
	TotalTokens     int64  `json:"total_tokens"` // over all splits
	LossTokens      int64  `json:"loss_tokens"`  // of TotalTokens, those that carry loss
	TokenizerSHA256 string `json:"tokenizer_sha256"`
	Template        string `json:"template"` // "" for the task completion, which has none
	Instruction     string `json:"instruction,omitempty"`

	Dropped  map[string]int64 `json:"dropped"`            // rows by reason
	Redacted map[string]int64 `json:"redacted,omitempty"` // replaced personal data by kind
	Relabels int64            `json:"relabels,omitempty"` // rows whose label was another spelling
}
