package tokenizer

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// Bounds of a charsmap. The library's own have 250 kB, keys of up to 12 bytes and texts of up
// to 33; a bad file shall cost neither time nor memory.
const (
	maxCharsmapBytes = 2 << 20
	maxRuleBytes     = 256 // of a key, and of what takes its place
)

// charsmap is a normalization of SentencePiece: rules that put one text in the place of
// another. It is a double-array trie, of darts-clone, over the bytes of the keys, and behind
// it the texts, each with a zero at its end:
//
//	uint32 bytes of the trie | uint32 units, little endian | texts
//
// Sources: normalizer.cc (DecodePrecompiledCharsMap, NormalizePrefix) and
// third_party/darts_clone/darts.h of github.com/google/sentencepiece.
type charsmap struct {
	units []unit
	texts string
	// alone says of an ASCII character that no rule begins with it, or only rules whose
	// second byte is none of ASCII: before ASCII it stays.
	alone [utf8.RuneSelf]bool
}

// unit is one place of the double array. The children of the node at p stand where its
// offset and their byte lead to, each labelled with that byte; its text where the offset
// alone does.
type unit uint32

func (u unit) hasText() bool  { return u>>8&1 == 1 }
func (u unit) text() uint32   { return uint32(u) & (1<<31 - 1) }
func (u unit) label() uint32  { return uint32(u) & (1<<31 | 0xff) }
func (u unit) offset() uint32 { return uint32(u>>10) << (u & (1 << 9) >> 6) }

// parseCharsmap reads and checks a charsmap, so that looking something up cannot fail.
func parseCharsmap(blob []byte) (*charsmap, error) {
	if len(blob) < 4 || len(blob) > maxCharsmapBytes {
		return nil, fmt.Errorf("the charsmap has %d bytes, read are 4 to %d", len(blob), maxCharsmapBytes)
	}
	size := binary.LittleEndian.Uint32(blob)
	blob = blob[4:]
	if uint64(size) > uint64(len(blob)) || size < 4 || size%4 != 0 {
		return nil, fmt.Errorf("the charsmap tells of a trie of %d bytes and has %d", size, len(blob))
	}
	m := &charsmap{units: make([]unit, size/4), texts: string(blob[size:])}
	for i := range m.units {
		m.units[i] = unit(binary.LittleEndian.Uint32(blob[4*i:]))
	}
	if _, err := m.check(m.root(), 0, make([]int16, (len(m.units)+255)&^255)); err != nil {
		return nil, fmt.Errorf("charsmap: %w", err)
	}
	for c := range m.alone {
		m.alone[c] = !m.ruledInASCII(uint32(c))
	}
	return m, nil
}

func (m *charsmap) root() uint32 { return m.units[0].offset() }

// child gives the place of the child of the node at place that the byte c leads to.
func (m *charsmap) child(place, c uint32) (node unit, next uint32, ok bool) {
	at := place ^ c
	if c == 0 || uint64(at) >= uint64(len(m.units)) || m.units[at].label() != c {
		return 0, 0, false
	}
	node = m.units[at]
	return node, at ^ node.offset(), true
}

// ruledInASCII says whether a key begins with c and is c alone, or goes on with ASCII.
func (m *charsmap) ruledInASCII(c uint32) bool {
	node, next, ok := m.child(m.root(), c)
	if !ok || node.hasText() {
		return ok
	}
	for c := range uint32(utf8.RuneSelf) {
		if _, _, ok := m.child(next, c); ok {
			return true
		}
	}
	return false
}

// onTheWay marks a node whose height is being found.
const onTheWay = -1

// check gives the height of what is below place, depth bytes from the root. Nodes are shared
// by keys that end alike: heights holds those that are known, plus one, by place.
func (m *charsmap) check(place uint32, depth int, heights []int16) (height int, err error) {
	if uint64(place) >= uint64(len(heights)) {
		return 0, nil // no unit is so far, whatever the byte
	}
	known := int(heights[place])
	if known == onTheWay || depth+max(known-1, 0) > maxRuleBytes {
		return 0, fmt.Errorf("a key has more than %d bytes", maxRuleBytes)
	}
	if known > 0 {
		return known - 1, nil
	}
	heights[place] = onTheWay
	for c := uint32(1); c < 256; c++ {
		node, next, ok := m.child(place, c)
		if !ok {
			continue
		}
		if node.hasText() {
			if err := m.checkText(next); err != nil {
				return 0, err
			}
		}
		below, err := m.check(next, depth+1, heights)
		if err != nil {
			return 0, err
		}
		height = max(height, below+1)
	}
	heights[place] = int16(height + 1)
	return height, nil
}

func (m *charsmap) checkText(place uint32) error {
	if uint64(place) >= uint64(len(m.units)) {
		return fmt.Errorf("a rule at %d of %d units", place, len(m.units))
	}
	begin := m.units[place].text()
	if uint64(begin) > uint64(len(m.texts)) {
		return fmt.Errorf("a text at %d of %d bytes", begin, len(m.texts))
	}
	text, _, _ := strings.Cut(m.texts[begin:min(int(begin)+maxRuleBytes+1, len(m.texts))], "\x00")
	if len(text) > maxRuleBytes || !utf8.ValidString(text) {
		return fmt.Errorf("the text at %d is no UTF-8 of up to %d bytes", begin, maxRuleBytes)
	}
	return nil
}

// match gives the rule for the longest key that s begins with, or the shortest. A key ends
// where a character does.
func (m *charsmap) match(s string, longest bool) (length int, text string, ok bool) {
	place, at := m.root(), uint32(0)
	for i := range len(s) {
		node, next, there := m.child(place, uint32(s[i]))
		if !there {
			break
		}
		place = next
		if node.hasText() && (i+1 == len(s) || utf8.RuneStart(s[i+1])) {
			length, at, ok = i+1, next, true
			if !longest {
				break
			}
		}
	}
	if ok {
		text, _, _ = strings.Cut(m.texts[m.units[at].text():], "\x00")
	}
	return length, text, ok
}

// longest is the normalization as SentencePiece does it, llama.cpp too: from left to right
// always the rule with the longest key; what has none stays.
func (m *charsmap) longest(s string) string {
	var b strings.Builder
	done := 0 // up to here it has been written
	for at := 0; at < len(s); {
		if c := s[at]; c < utf8.RuneSelf && m.alone[c] && (at+1 == len(s) || s[at+1] < utf8.RuneSelf) {
			at++
			continue
		}
		length, text, ok := m.match(s[at:], true)
		if !ok {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
			continue
		}
		b.WriteString(s[done:at])
		b.WriteString(text)
		at += length
		done = at
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// wholeCluster is the length from which a grapheme cluster is looked up by its characters.
const wholeCluster = 6

// clusters is the normalization as the original's Precompiled does it (precompiled.rs): a
// short grapheme cluster as a whole gets the text of the shortest key that it begins with,
// and what of it that key does not cover is lost; a longer cluster is looked up character by
// character. The two differ where a combining mark follows a character that has a rule of
// its own, and at line ends of two characters: huggingface/tokenizers#2116 and #2334 have that as a fault, and as long as it
// stands a tokenizer.json is served with it.
func (m *charsmap) clusters(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for it := graphemes.FromString(s); it.Next(); {
		cluster := it.Value()
		if len(cluster) == 1 && m.alone[cluster[0]] {
			b.WriteByte(cluster[0])
			continue
		}
		if len(cluster) < wholeCluster {
			if _, text, ok := m.match(cluster, false); ok {
				b.WriteString(text)
				continue
			}
		}
		for _, r := range cluster {
			char := string(r)
			if _, text, ok := m.match(char, false); ok {
				char = text
			}
			b.WriteString(char)
		}
	}
	return b.String()
}
