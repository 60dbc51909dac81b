package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
)

// Tokenizer encodes and decodes. It is immutable after Load and safe for
// concurrent use.
type Tokenizer struct {
	normalizer   normalizer   // nil: text is taken as it is
	pretokenizer pretokenizer // nil: a text is one word
	model        *bpe
	unigram      *unigram // nil: the model is the bpe; else that is its vocabulary only
	added        *addedVocab
	prefix       []int32
	suffix       []int32
	decoder      decoder // nil: tokens are joined by spaces
	size         int
	byteLevel    bool
	border       string // a character that no token has with others
	parts        Parts

	// Short cuts with the same outcome: how a byte-level pre-tokenizer cuts (nil: by the
	// pretokenizer), and where a word of the SentencePiece kind may be cut.
	cut       cutter
	cutDigits bool
	marks     *marks
	seen      *wordCache // words as they stand in the text, with cut
}

// Parts are the components of the tokenizer.json as they stand in it; for those
// who have to say the same in another format. nil: there is none.
type Parts struct {
	Normalizer   json.RawMessage
	PreTokenizer json.RawMessage
}

// Encode gives the ids of text. Special tokens in the text are recognised. With
// addSpecial the post-processor's tokens (beginning, end) are put around it. Bytes
// that are no UTF-8 count as U+FFFD. Truncation and padding, which a
// tokenizer.json may ask for, are not done: they are the caller's concern.
func (t *Tokenizer) Encode(text string, addSpecial bool) []int32 {
	return t.AppendEncode(make([]int32, 0, len(text)/3+len(t.prefix)+len(t.suffix)), text, addSpecial)
}

// EncodeNext gives the ids of text as the continuation of before: without the space
// that a SentencePiece tokenizer puts before a text, unless it puts one there, after
// a special token, in the whole too. For a byte-level tokenizer it is Encode.
func (t *Tokenizer) EncodeNext(before, text string) []int32 {
	return t.AppendNext(make([]int32, 0, len(text)/3+1), before, text)
}

// AppendNext is EncodeNext into a slice that the caller has.
func (t *Tokenizer) AppendNext(ids []int32, before, text string) []int32 {
	if t.byteLevel || before == "" || text == "" {
		return t.AppendEncode(ids, text, false)
	}
	// If a token would reach over the border, the text follows a character instead that
	// becomes a byte token or the unknown one, which no merge joins with anything.
	for _, b := range []string{before, t.border} {
		head, whole := t.Encode(b, false), t.Encode(b+text, false)
		if len(whole) >= len(head) && slices.Equal(whole[:len(head)], head) {
			return append(ids, whole[len(head):]...)
		}
	}
	return t.AppendEncode(ids, text, false)
}

// borderOf chooses a control character, or one for private use where a normalizer takes
// control characters away.
func borderOf(n normalizer) string {
	const control, private = "\x01", "\ue000"
	if n != nil && !strings.Contains(n.normalize(control), control) {
		return private
	}
	return control
}

// Prefix and Suffix are the ids that Encode with addSpecial puts before and after
// a text; for those who join several pieces into one sequence.
func (t *Tokenizer) Prefix() []int32 { return append([]int32(nil), t.prefix...) }

// Suffix: see Prefix.
func (t *Tokenizer) Suffix() []int32 { return append([]int32(nil), t.suffix...) }

// Decode gives the text of ids; ids that no token has are left out. With
// skipSpecial special tokens are left out too. Bytes that form no UTF-8 become
// U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		token, ok := t.Token(id)
		if !ok || skipSpecial && t.added.special[token] {
			continue
		}
		tokens = append(tokens, token)
	}
	if t.decoder == nil {
		return strings.Join(tokens, " ")
	}
	return strings.Join(t.decoder.decode(tokens), "")
}

// TokenID is the id of a token as it stands in the vocabulary (for a byte-level
// tokenizer in its printable form, "Ġthe").
func (t *Tokenizer) TokenID(token string) (int32, bool) {
	if id, ok := t.added.ids[token]; ok {
		return id, true
	}
	id, ok := t.model.vocab[token]
	return id, ok
}

// Token is the inverse of TokenID.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if a, ok := t.added.byID[id]; ok {
		return a.Content, true
	}
	return t.model.token(id)
}

// VocabSize is the number of ids: the highest one plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return t.size }

// Vocab lists the tokens by id, "" where an id is not used. The slice is the
// caller's.
func (t *Tokenizer) Vocab() []string {
	all := make([]string, t.size)
	copy(all, t.model.tokens)
	for id, a := range t.added.byID {
		all[id] = a.Content
	}
	return all
}

// Merges lists the merges in the order of their rank. The slice is the caller's.
func (t *Tokenizer) Merges() [][2]string { return append([][2]string(nil), t.model.merges...) }

// AddedTokens lists the added tokens by id. The slice is the caller's.
func (t *Tokenizer) AddedTokens() []AddedToken { return append([]AddedToken(nil), t.added.list...) }

// ByteLevel says whether tokens are spelled in the printable byte alphabet of
// GPT-2; otherwise the vocabulary is of the SentencePiece kind.
func (t *Tokenizer) ByteLevel() bool { return t.byteLevel }

// Unigram says that the model is Unigram rather than byte-pair encoding: it has scores
// instead of merges.
func (t *Tokenizer) Unigram() bool { return t.unigram != nil }

// Scores lists Unigram's scores by id, nil for byte-pair encoding. The slice is the
// caller's.
func (t *Tokenizer) Scores() []float64 {
	if t.unigram == nil {
		return nil
	}
	return slices.Clone(t.unigram.scores)
}

// Parts gives the components as they stand in the file. They are not to be changed.
func (t *Tokenizer) Parts() Parts { return t.parts }

// IgnoreMerges says that a word which is a token is taken whole, whatever the
// merges would make of it.
func (t *Tokenizer) IgnoreMerges() bool { return t.model.ignoreMerges }

// ByteFallback says that characters which the vocabulary lacks are spelled by byte
// tokens, <0x00> to <0xFF>.
func (t *Tokenizer) ByteFallback() bool { return t.model.byteFallback }

// UnknownID is the id of the model's unknown token, if it has one.
func (t *Tokenizer) UnknownID() (int32, bool) { return t.model.unk, t.model.hasUnk }
