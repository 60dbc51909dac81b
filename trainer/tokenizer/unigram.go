package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// unigram is SentencePiece's other model: of all ways to cut a word into tokens it takes the
// one with the highest sum of scores (Kudo 2018, "Subword Regularization"; models/unigram of
// the original, whose ties and unknown characters are decided here as there).
type unigram struct {
	words  *bpe // the vocabulary and the byte tokens; it has no merges
	scores []float64
	trie   trie
	// unknown is the score of a character that no token is: the lowest of all less
	// unknownPenalty.
	unknown float64

	cache *wordCache
}

const unknownPenalty = 10

type unigramConfig struct {
	UnkID        *int32              `json:"unk_id"`
	Vocab        [][]json.RawMessage `json:"vocab"`
	ByteFallback bool                `json:"byte_fallback"`
}

func parseUnigram(raw json.RawMessage) (*unigram, error) {
	var c unigramConfig
	if err := readPart(raw, &c); err != nil {
		return nil, err
	}
	if len(c.Vocab) == 0 {
		return nil, errors.New("the vocabulary is empty")
	}
	u := &unigram{cache: newWordCache(), scores: make([]float64, len(c.Vocab)), unknown: math.Inf(1)}
	vocab := make(map[string]int32, len(c.Vocab))
	tokens := make([]string, len(c.Vocab))
	for id, entry := range c.Vocab {
		if len(entry) != 2 || json.Unmarshal(entry[0], &tokens[id]) != nil || json.Unmarshal(entry[1], &u.scores[id]) != nil {
			return nil, fmt.Errorf("vocabulary entry %d is not a token and its score", id)
		}
		if have, dup := vocab[tokens[id]]; dup {
			return nil, fmt.Errorf("tokens %d and %d are both %q", have, id, tokens[id])
		}
		vocab[tokens[id]] = int32(id)
		u.unknown = min(u.unknown, u.scores[id])
	}
	u.unknown -= unknownPenalty
	var err error
	if u.words, err = newBPE(vocab, nil, ""); err != nil {
		return nil, err
	}
	u.words.byteFallback, u.words.fuseUnk = c.ByteFallback, true
	if c.UnkID != nil {
		if *c.UnkID < 0 || int(*c.UnkID) >= len(tokens) {
			return nil, fmt.Errorf("unk_id is %d, there are %d tokens", *c.UnkID, len(tokens))
		}
		u.words.unk, u.words.hasUnk = *c.UnkID, true
	}
	u.trie = newTrie(tokens)
	return u, nil
}

// node is the best way to a place in the word.
type node struct {
	score float64
	from  int32 // where its last token begins; -1: there is no way
	id    int32 // of that token, -1 of an unknown character
}

// encode appends the ids of one word.
func (u *unigram) encode(ids []int32, word string) []int32 {
	if word == "" {
		return ids
	}
	if hit, ok := u.cache.get(word); ok {
		return append(ids, hit...)
	}
	begin := len(ids)
	best := make([]node, len(word)+1)
	for i := range best {
		best[i].from = -1
	}
	best[0].from = 0
	for at, size := 0, 0; at < len(word); at += size {
		_, size = utf8.DecodeRuneInString(word[at:])
		base, single := best[at].score, false
		u.trie.prefixes(word[at:], func(length int, id int32) {
			best[at+length].offer(base+u.scores[id], at, id)
			single = single || length == size
		})
		if !single {
			best[at+size].offer(base+u.unknown, at, -1)
		}
	}
	// From the end to the beginning; neighbouring unknown characters are one.
	var cuts []int
	unknown := false
	for end := len(word); end > 0; end = int(best[end].from) {
		if isUnknown := best[end].id < 0 || u.words.hasUnk && best[end].id == u.words.unk; !unknown || !isUnknown {
			cuts = append(cuts, end)
			unknown = isUnknown
		}
	}
	slices.Reverse(cuts)
	from := 0
	for _, end := range cuts {
		ids = u.piece(ids, word[from:end])
		from = end
	}
	u.cache.put(word, ids[begin:])
	return ids
}

func (u *unigram) piece(ids []int32, s string) []int32 {
	if id, ok := u.words.vocab[s]; ok {
		return append(ids, id)
	}
	if u.words.byteFallback {
		if all, ok := u.words.bytesOf(ids, s); ok {
			return all
		}
	}
	if u.words.hasUnk {
		return append(ids, u.words.unk)
	}
	return ids
}

func (n *node) offer(score float64, from int, id int32) {
	if n.from < 0 || score > n.score {
		*n = node{score, int32(from), id}
	}
}

// trie finds the tokens that a text begins with.
type trie struct {
	first   []int32 // of each node, its first edge; one more at the end
	token   []int32 // of each node, the token that ends there, or -1
	letters []byte  // of each edge, ascending within a node
	targets []int32 // of each edge
}

func newTrie(tokens []string) trie {
	order := make([]int32, 0, len(tokens))
	for id, t := range tokens {
		if t != "" {
			order = append(order, int32(id))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(tokens[a], tokens[b]) })
	t := trie{token: []int32{-1}}
	// Breadth first, so that the edges of a node stand together.
	type span struct{ from, to, depth int32 }
	spans := []span{{0, int32(len(order)), 0}}
	for n := 0; n < len(spans); n++ {
		s := spans[n]
		t.first = append(t.first, int32(len(t.letters)))
		if s.from < s.to && len(tokens[order[s.from]]) == int(s.depth) {
			t.token[n] = order[s.from]
			s.from++
		}
		for i := s.from; i < s.to; {
			letter := tokens[order[i]][s.depth]
			j := i
			for j < s.to && tokens[order[j]][s.depth] == letter {
				j++
			}
			t.letters, t.targets = append(t.letters, letter), append(t.targets, int32(len(spans)))
			spans, t.token = append(spans, span{i, j, s.depth + 1}), append(t.token, -1)
			i = j
		}
	}
	t.first = append(t.first, int32(len(t.letters)))
	return t
}

// prefixes calls found for each token that s begins with, the shortest first.
func (t *trie) prefixes(s string, found func(length int, id int32)) {
	n := int32(0)
	for i := range len(s) {
		from, to := t.first[n], t.first[n+1]
		at, ok := slices.BinarySearch(t.letters[from:to], s[i])
		if !ok {
			return
		}
		n = t.targets[int(from)+at]
		if id := t.token[n]; id >= 0 {
			found(i+1, id)
		}
	}
}
