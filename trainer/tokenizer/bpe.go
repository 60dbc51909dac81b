package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// bpe is byte-pair encoding: a word becomes its characters, then the adjacent pair
// with the lowest rank is merged, the leftmost first, until no pair has one
// (models/bpe of the original).
type bpe struct {
	vocab  map[string]int32
	tokens []string // by id
	merges [][2]string
	pairs  map[pair]merge

	unk          int32
	hasUnk       bool
	fuseUnk      bool
	fallback     [256]int32 // ids of <0x00> ... <0xFF>, -1 where there is none
	byteFallback bool
	prefix       string // before every character but a word's first
	suffix       string // after a word's last character
	ignoreMerges bool   // a word that is a token is that token

	cache *wordCache
}

type pair struct{ left, right int32 }

type merge struct {
	rank int32
	id   int32
}

func newBPE(vocab map[string]int32, merges [][2]string, prefix string) (*bpe, error) {
	m := &bpe{vocab: vocab, merges: merges, prefix: prefix, cache: newWordCache(), pairs: make(map[pair]merge, len(merges))}
	size := int32(0)
	for token, id := range vocab {
		if id < 0 || id >= maxID {
			return nil, fmt.Errorf("token %q has id %d, outside 0..%d", token, id, maxID-1)
		}
		size = max(size, id+1)
	}
	m.tokens = make([]string, size)
	for token, id := range vocab {
		if m.tokens[id] != "" {
			return nil, fmt.Errorf("tokens %q and %q share the id %d", m.tokens[id], token, id)
		}
		m.tokens[id] = token
	}
	for rank, p := range merges {
		left, ok1 := vocab[p[0]]
		right, ok2 := vocab[p[1]]
		id, ok3 := vocab[p[0]+strings.TrimPrefix(p[1], prefix)]
		if !ok1 || !ok2 || !ok3 {
			return nil, fmt.Errorf("merge %d (%q, %q): a part or the whole is not in the vocabulary", rank, p[0], p[1])
		}
		// A pair that is listed twice has its last rank, as in the original.
		m.pairs[pair{left, right}] = merge{int32(rank), id}
	}
	for b := range m.fallback {
		m.fallback[b] = -1
		if id, ok := vocab[fmt.Sprintf("<0x%02X>", b)]; ok {
			m.fallback[b] = id
		}
	}
	return m, nil
}

func (m *bpe) token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(m.tokens) {
		return "", false
	}
	t := m.tokens[id]
	if t == "" {
		_, ok := m.vocab[""]
		return t, ok && m.vocab[""] == id
	}
	return t, true
}

// encode appends the ids of one word.
func (m *bpe) encode(ids []int32, word string) []int32 {
	if word == "" {
		return ids
	}
	if m.ignoreMerges {
		if id, ok := m.vocab[word]; ok {
			return append(ids, id)
		}
	}
	if hit, ok := m.cache.get(word); ok {
		return append(ids, hit...)
	}
	begin := len(ids)
	ids = m.characters(ids, word)
	ids = ids[:begin+m.mergeAll(ids[begin:])]
	m.cache.put(word, ids[begin:])
	return ids
}

// characters appends the ids of the word's characters before any merge.
func (m *bpe) characters(ids []int32, word string) []int32 {
	pending := false // an unknown token that has not been written
	for i, r := range word {
		end := i + utf8.RuneLen(r)
		s := word[i:end]
		if m.prefix != "" && i > 0 {
			s = m.prefix + s
		}
		if m.suffix != "" && end == len(word) {
			s += m.suffix
		}
		if id, ok := m.vocab[s]; ok {
			if pending {
				ids, pending = append(ids, m.unk), false
			}
			ids = append(ids, id)
			continue
		}
		if m.byteFallback {
			if all, ok := m.bytesOf(ids, s); ok {
				ids = all
				continue
			}
		}
		if m.hasUnk { // otherwise the character is dropped
			if pending && !m.fuseUnk {
				ids = append(ids, m.unk)
			}
			pending = true
		}
	}
	if pending {
		ids = append(ids, m.unk)
	}
	return ids
}

func (m *bpe) bytesOf(ids []int32, s string) ([]int32, bool) {
	for i := range len(s) {
		if m.fallback[s[i]] < 0 {
			return nil, false
		}
	}
	for i := range len(s) {
		ids = append(ids, m.fallback[s[i]])
	}
	return ids, true
}

// scanLimit is the word length up to which looking through all pairs for each
// merge is quicker than a heap.
const scanLimit = 32

// mergeAll merges in place and gives the new length.
func (m *bpe) mergeAll(ids []int32) int {
	if len(ids) > scanLimit {
		return m.mergeHeap(ids)
	}
	return m.mergeScan(ids)
}

func (m *bpe) mergeScan(ids []int32) int {
	var ranks [scanLimit]merge // of the pair that begins at i; rank -1: none
	look := func(i int) merge {
		if got, ok := m.pairs[pair{ids[i], ids[i+1]}]; ok {
			return got
		}
		return merge{rank: -1}
	}
	n := len(ids)
	for i := 0; i+1 < n; i++ {
		ranks[i] = look(i)
	}
	for n > 1 {
		best := -1
		for i := 0; i+1 < n; i++ {
			if ranks[i].rank >= 0 && (best < 0 || ranks[i].rank < ranks[best].rank) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		ids[best] = ranks[best].id
		copy(ids[best+1:n], ids[best+2:n])
		if best+2 < n {
			copy(ranks[best+1:n-1], ranks[best+2:n])
		}
		n--
		if best+1 < n {
			ranks[best] = look(best)
		}
		if best > 0 {
			ranks[best-1] = look(best - 1)
		}
	}
	return n
}

// mergeHeap does the same in n log n: symbols in a linked list, candidates in a
// heap, a candidate that no longer holds is dropped when it comes up.
func (m *bpe) mergeHeap(ids []int32) int {
	n := len(ids)
	prev, next := make([]int32, n), make([]int32, n)
	gone := make([]bool, n)
	for i := range n {
		prev[i], next[i] = int32(i-1), int32(i+1)
	}
	queue := make(candidates, 0, n)
	add := func(i int32) {
		j := next[i]
		if int(j) >= n {
			return
		}
		if got, ok := m.pairs[pair{ids[i], ids[j]}]; ok {
			queue.push(candidate{got.rank, i, pair{ids[i], ids[j]}, got.id})
		}
	}
	for i := range n - 1 {
		add(int32(i))
	}
	for len(queue) > 0 {
		c := queue.pop()
		j := int32(n)
		if !gone[c.at] {
			j = next[c.at]
		}
		if int(j) >= n || ids[c.at] != c.pair.left || ids[j] != c.pair.right {
			continue
		}
		ids[c.at], gone[j] = c.id, true
		next[c.at] = next[j]
		if int(next[j]) < n {
			prev[next[j]] = c.at
		}
		if prev[c.at] >= 0 {
			add(prev[c.at])
		}
		add(c.at)
	}
	out := 0
	for i := 0; i < n; i = int(next[i]) {
		ids[out] = ids[i]
		out++
	}
	return out
}

type candidate struct {
	rank int32
	at   int32
	pair pair
	id   int32
}

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

// candidates are a binary heap, the first one before all others.
type candidates []candidate

func (c *candidates) push(x candidate) {
	q := append(*c, x)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.before(q[up]) {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = x
	*c = q
}

func (c *candidates) pop() candidate {
	q := *c
	first, x := q[0], q[len(q)-1]
	q = q[:len(q)-1]
	for i := 0; len(q) > 0; {
		down := 2*i + 1
		if down >= len(q) {
			q[i] = x
			break
		}
		if down+1 < len(q) && q[down+1].before(q[down]) {
			down++
		}
		if !q[down].before(x) {
			q[i] = x
			break
		}
		q[i] = q[down]
		i = down
	}
	*c = q
	return first
}
