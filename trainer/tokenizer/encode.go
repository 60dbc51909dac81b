package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// AppendEncode is Encode into a slice that the caller has.
func (t *Tokenizer) AppendEncode(ids []int32, text string, addSpecial bool) []int32 {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	if addSpecial {
		ids = append(ids, t.prefix...)
	}
	// The tokens that are looked for in raw text cut it first; what is left is
	// normalized and cut by the others.
	for raw := t.added.raw.spans(text); ; {
		outer, ok := raw.next()
		if !ok {
			break
		}
		if outer.token >= 0 {
			ids = append(ids, outer.token)
			continue
		}
		piece := text[outer.begin:outer.end]
		if t.normalizer != nil {
			piece = t.normalizer.normalize(piece)
		}
		for normalized := t.added.normalized.spans(piece); ; {
			inner, ok := normalized.next()
			if !ok {
				break
			}
			if inner.token >= 0 {
				ids = append(ids, inner.token)
				continue
			}
			ids = t.encodeWords(ids, piece[inner.begin:inner.end], outer.begin == 0 && inner.begin == 0)
		}
	}
	if addSpecial {
		ids = append(ids, t.suffix...)
	}
	return ids
}

func (t *Tokenizer) encodeWords(ids []int32, text string, first bool) []int32 {
	switch {
	case text == "":
		return ids
	case t.cut != nil:
		return t.encodeBytes(ids, text)
	case t.pretokenizer != nil:
		for _, w := range t.pretokenizer.pretokenize([]word{{text: text, first: first}}) {
			ids = t.encodeWord(ids, w.text)
		}
		return ids
	}
	return t.encodeWord(ids, text)
}

func (t *Tokenizer) encodeWord(ids []int32, word string) []int32 {
	if t.unigram != nil {
		return t.unigram.encode(ids, word)
	}
	for t.marks != nil && word != "" {
		n := t.marks.word(word)
		ids = t.model.encode(ids, word[:n])
		word = word[n:]
	}
	return t.model.encode(ids, word)
}

// encodeBytes cuts a text of a byte-level tokenizer, whose words are spelled in the byte
// alphabet only if they have not been seen yet.
func (t *Tokenizer) encodeBytes(ids []int32, text string) []int32 {
	for text != "" {
		stretch := text
		if t.cutDigits {
			n := firstNumber(text)
			if n == 0 {
				_, n = utf8.DecodeRuneInString(text)
				ids = t.encodeRaw(ids, text[:n])
				text = text[n:]
				continue
			}
			stretch = text[:n]
		}
		text = text[len(stretch):]
		for stretch != "" {
			n := t.cut(stretch)
			ids = t.encodeRaw(ids, stretch[:n])
			stretch = stretch[n:]
		}
	}
	return ids
}

func (t *Tokenizer) encodeRaw(ids []int32, word string) []int32 {
	if hit, ok := t.seen.get(word); ok {
		return append(ids, hit...)
	}
	begin := len(ids)
	ids = t.encodeWord(ids, toPrintable(word))
	t.seen.put(word, ids[begin:])
	return ids
}

// space is SentencePiece's mark for a space.
const space = "▁"

// marks is where a text of the SentencePiece kind may be cut without another outcome:
// before a mark, unless the character before it is in joined.
type marks struct{ joined map[rune]bool }

// marks looks for merges that make a token in which a mark follows another character; nil
// if a text is not to be cut.
func (m *bpe) marks() *marks {
	if m.prefix != "" || m.suffix != "" || m.ignoreMerges {
		return nil
	}
	// Neighbouring unknown characters are one token, which a mark that is known ends.
	if _, known := m.vocab[space]; !known {
		return nil
	}
	out := &marks{map[rune]bool{}}
	for _, merge := range m.pairs {
		token := m.tokens[merge.id]
		for i := 1; i < len(token); i++ {
			if strings.HasPrefix(token[i:], space) && !strings.HasSuffix(token[:i], space) {
				r, _ := utf8.DecodeLastRuneInString(token[:i])
				out.joined[r] = true
			}
		}
	}
	return out
}

// word is the length of what stands at the beginning of s up to where it may be cut.
func (k *marks) word(s string) int {
	n := 0
	for strings.HasPrefix(s[n:], space) {
		n += len(space)
	}
	for n < len(s) {
		i := strings.Index(s[n:], space)
		if i < 0 {
			return len(s)
		}
		n += i
		if r, _ := utf8.DecodeLastRuneInString(s[:n]); !k.joined[r] {
			return n
		}
		for strings.HasPrefix(s[n:], space) {
			n += len(space)
		}
	}
	return n
}

// wordCache remembers the ids of short words: a corpus has few words that it repeats often.
// It has a fixed number of places; a word takes that of another. It needs no lock.
type wordCache struct {
	seed   maphash.Seed
	places []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

const (
	cachePlaces    = 1 << 16
	cacheWordBytes = 64
)

func newWordCache() *wordCache {
	return &wordCache{maphash.MakeSeed(), make([]atomic.Pointer[cachedWord], cachePlaces)}
}

func (c *wordCache) place(word string) *atomic.Pointer[cachedWord] {
	return &c.places[maphash.String(c.seed, word)%cachePlaces]
}

func (c *wordCache) get(word string) ([]int32, bool) {
	if len(word) > cacheWordBytes {
		return nil, false
	}
	if e := c.place(word).Load(); e != nil && e.word == word {
		return e.ids, true
	}
	return nil, false
}

func (c *wordCache) put(word string, ids []int32) {
	if len(word) > cacheWordBytes {
		return
	}
	// The word may be a slice of a large text, which the cache must not keep alive.
	c.place(word).Store(&cachedWord{strings.Clone(word), append([]int32(nil), ids...)})
}
