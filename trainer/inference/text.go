package inference

import (
	"strings"
	"unicode/utf8"
)

// decoder turns tokens into text, a piece at a time.
type decoder interface {
	Decode(ids []int32, skipSpecial bool) string
}

// stream turns a growing list of tokens into pieces of text. A token may be half
// a character, or stand for another text at the beginning than in the middle
// ("▁a" of SentencePiece), so a piece is what a token adds to the text of the
// few before it, once that is whole.
type stream struct {
	decoder decoder
	stops   []string
	ids     []int32
	from    int // the first token of the context
	read    int // tokens before this one are in text already
	text    string
	sent    int // bytes of text that were handed out
}

// add takes a token and returns the text that can be handed out, and whether a
// stop string has come, before which the text ends.
func (s *stream) add(id int32) (piece string, stopped bool) {
	s.ids = append(s.ids, id)
	before := s.decoder.Decode(s.ids[s.from:s.read], true)
	now := s.decoder.Decode(s.ids[s.from:], true)
	if !strings.HasPrefix(now, before) || endsHalf(now) {
		return "", false
	}
	if added := now[len(before):]; added != "" {
		s.text += added
		s.from, s.read = s.read, len(s.ids)
	}
	for _, stop := range s.stops {
		if i := strings.Index(s.text, stop); i >= 0 {
			return s.upTo(max(i, s.sent)), true
		}
	}
	return s.upTo(len(s.text) - s.held()), false
}

// rest is what was held back, at the end.
func (s *stream) rest() string {
	if tail := s.decoder.Decode(s.ids[s.from:], true); s.read < len(s.ids) {
		if before := s.decoder.Decode(s.ids[s.from:s.read], true); strings.HasPrefix(tail, before) {
			s.text += strings.TrimRight(tail[len(before):], "\uFFFD")
		}
	}
	return s.upTo(len(s.text))
}

func (s *stream) upTo(end int) string {
	piece := s.text[s.sent:max(end, s.sent)]
	s.sent = max(end, s.sent)
	return piece
}

// held is how many bytes at the end of the text may be the beginning of a stop
// string.
func (s *stream) held() int {
	most := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.text)); n > most; n-- {
			if strings.HasSuffix(s.text, stop[:n]) {
				most = n
				break
			}
		}
	}
	return most
}

// endsHalf says whether a text ends in a character of which bytes are missing,
// which a decoder writes as U+FFFD.
func endsHalf(s string) bool {
	r, size := utf8.DecodeLastRuneInString(s)
	return r == utf8.RuneError && size > 0
}
