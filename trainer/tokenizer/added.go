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

// spans cuts a text into added tokens and what is between them.
func (m *matcher) spans(text string) spans { return spans{m: m, text: text} }

// spans gives the parts of a text one by one.
type spans struct {
	m     *matcher
	text  string
	at    int  // up to here it has been looked through
	done  int  // up to here it has been given
	token span // that comes next
	found bool
}

func (s *spans) next() (span, bool) {
	if s.found {
		s.found, s.done = false, s.token.end
		return s.token, true
	}
	for s.m.any && s.at < len(s.text) {
		p := s.m.at(s.text[s.at:])
		if p == nil {
			s.at++
			continue
		}
		begin, end := s.at, s.at+len(p.text)
		s.at = end // a match that is refused below is not looked into again
		if p.token.SingleWord && (endsWithWord(s.text[:begin]) || startsWithWord(s.text[end:])) {
			continue
		}
		if p.token.LStrip {
			begin = max(len(strings.TrimRightFunc(s.text[:begin], unicode.IsSpace)), s.done)
		}
		if p.token.RStrip {
			end = len(s.text) - len(strings.TrimLeftFunc(s.text[end:], unicode.IsSpace))
		}
		s.token = span{begin, end, p.token.ID}
		if before := s.done; before < begin {
			s.found = true
			return span{before, begin, -1}, true
		}
		s.done = end
		return s.token, true
	}
	if s.done < len(s.text) {
		rest := span{s.done, len(s.text), -1}
		s.done = len(s.text)
		return rest, true
	}
	return span{}, false
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
