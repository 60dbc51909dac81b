package tokenizer

import "errors"

// Tokenizer encodes and decodes. It is immutable after Load and safe for
// concurrent use.
type Tokenizer struct{}

// AddedToken is a token outside of the vocabulary's merges, found in the text
// before it is split: a special token such as <|im_end|>, or a plain word.
type AddedToken struct {
	ID         int32
	Content    string
	SingleWord bool // only where no word character touches it
	LStrip     bool // takes the whitespace on its left
	RStrip     bool // takes the whitespace on its right
	Normalized bool // looked for in the normalized text rather than the raw one
	Special    bool // left out by Decode with skipSpecial
}

// Load reads a tokenizer.json, or the one in the folder path.
func Load(path string) (*Tokenizer, error) { return nil, errors.New("tokenizer: not built yet") }

// Parse reads the bytes of a tokenizer.json.
func Parse(data []byte) (*Tokenizer, error) { return nil, errors.New("tokenizer: not built yet") }

// Encode gives the ids of text. Special tokens in the text are recognised. With
// addSpecial the post-processor's tokens (beginning, end) are put around it.
func (t *Tokenizer) Encode(text string, addSpecial bool) []int32 { return nil }

// Prefix and Suffix are the ids that Encode with addSpecial puts before and after
// a text; for those who join several pieces into one sequence.
func (t *Tokenizer) Prefix() []int32 { return nil }

// Suffix: see Prefix.
func (t *Tokenizer) Suffix() []int32 { return nil }

// Decode gives the text of ids; ids that no token has are left out. With
// skipSpecial special tokens are left out too.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string { return "" }

// TokenID is the id of a token as it stands in the vocabulary (for a byte-level
// tokenizer in its printable form, "Ġthe").
func (t *Tokenizer) TokenID(token string) (int32, bool) { return 0, false }

// Token is the inverse of TokenID.
func (t *Tokenizer) Token(id int32) (string, bool) { return "", false }

// VocabSize is the number of ids: the highest one plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return 0 }

// Vocab lists the tokens by id, "" where an id is not used. The slice is the caller's.
func (t *Tokenizer) Vocab() []string { return nil }

// Merges lists the merges in the order of their rank.
func (t *Tokenizer) Merges() [][2]string { return nil }

// AddedTokens lists the added tokens by id.
func (t *Tokenizer) AddedTokens() []AddedToken { return nil }
