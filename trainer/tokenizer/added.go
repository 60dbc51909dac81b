package tokenizer

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AddedToken is a token outside of the vocabulary's merges, found in the text
// before it is split: a special token such as <|im_end|>, or a plain word.
type AddedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character touches it
	LStrip     bool   `json:"lstrip"`      // takes the whitespace on its left
	RStrip     bool   `json:"rstrip"`      // takes the whitespace on its right
	Normalized bool   `json:"normalized"`  // looked for in the normalized text rather than the raw one
	Special    bool   `json:"special"`     // left out by Decode with skipSpecial
}

type addedVocab struct {
	list       []AddedToken
	ids        map[string]int32
	byID       map[int32]AddedToken
	special    map[string]bool
	raw        *matcher
	normalized *matcher
}

func newAddedVocab(list []AddedToken, n normalizer) *addedVocab {
	v := &addedVocab{
		ids: map[string]int32{}, byID: map[int32]AddedToken{}, special: map[string]bool{},
		raw: &matcher{}, normalized: &matcher{},
	}
	for _, a := range list {
		if a.Content == "" {
			continue
		}
		if _, dup := v.byID[a.ID]; !dup {
			v.list = append(v.list, a)
		}
		v.ids[a.Content] = a.ID
		v.byID[a.ID] = a
		if a.Special {
			v.special[a.Content] = true
		}
		if !a.Normalized {
			v.raw.add(a.Content, a)
			continue
		}
		pattern := a.Content
		if n != nil {
			pattern = n.normalize(pattern)
		}
		v.normalized.add(pattern, a)
	}
	sort.Slice(v.list, func(i, j int) bool { return v.list[i].ID < v.list[j].ID })
	v.raw.finish()
	v.normalized.finish()
	return v
}

// matcher finds added tokens in a text: the leftmost, of those the longest, as in
// added_vocabulary.rs of the original.
type matcher struct {
	patterns [256][]pattern // by first byte, longest first
	any      bool
}

type pattern struct {
	text  string
	token AddedToken
}

// span is a part of a text: token is an id, or -1 for text between tokens.
type span struct {
	begin, end int
	token      int32
}

func (m *matcher) add(text string, token AddedToken) {
	if text == "" {
		return
	}
	m.any = true
	m.patterns[text[0]] = append(m.patterns[text[0]], pattern{text, token})
}

func (m *matcher) finish() {
	for _, ps := range m.patterns {
		sort.SliceStable(ps, func(i, j int) bool { return len(ps[i].text) > len(ps[j].text) })
	}
}

func (m *matcher) at(text string) *pattern {
	ps := m.patterns[text[0]]
	for i := range ps {
		if strings.HasPrefix(text, ps[i].text) {
			return &ps[i]
		}
	}
	return nil
}

func (m *matcher) split(text string) []span {
	if !m.any {
		return []span{{0, len(text), -1}}
	}
	var out []span
	done := 0
	for i := 0; i < len(text); {
		p := m.at(text[i:])
		if p == nil {
			i++
			continue
		}
		begin, end := i, i+len(p.text)
		i = end // a match that is refused below is not looked into again
		if p.token.SingleWord && (endsWithWord(text[:begin]) || startsWithWord(text[end:])) {
			continue
		}
		if p.token.LStrip {
			begin = max(len(strings.TrimRightFunc(text[:begin], unicode.IsSpace)), done)
		}
		if p.token.RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < begin {
			out = append(out, span{done, begin, -1})
		}
		out = append(out, span{begin, end, p.token.ID})
		done = end
	}
	if done < len(text) {
		out = append(out, span{done, len(text), -1})
	}
	return out
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

func endsWithWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

// isWord is \w of Unicode (UTS 18, annex C): alphabetic, marks, decimal digits,
// connector punctuation, join controls.
func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.Is(unicode.M, r) || unicode.Is(unicode.Nd, r) ||
		unicode.Is(unicode.Nl, r) || unicode.Is(unicode.Other_Alphabetic, r) ||
		unicode.Is(unicode.Pc, r) || r == 0x200c || r == 0x200d
}
