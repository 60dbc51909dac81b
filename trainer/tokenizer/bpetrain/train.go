package bpetrain

import (
	"container/heap"
	"context"
	"fmt"
	"iter"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/bytealphabet"
)

// Config of a training. Zero fields take their defaults.
type Config struct {
	VocabSize     int      // ids in all: special tokens, 256 bytes, merges. Default 4096
	MinFrequency  int      // a pair that occurs less often is not merged. Default 2
	MaxTokenBytes int      // a longer token is not made. Default 16
	Special       []string // ids 0, 1, 2, ... Default <|endoftext|>, <|im_start|>, <|im_end|>
}

// DefaultSpecial are the special tokens of ChatML.
func DefaultSpecial() []string { return []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} }

func (c Config) withDefaults() Config {
	if c.VocabSize == 0 {
		c.VocabSize = 4096
	}
	if c.MinFrequency == 0 {
		c.MinFrequency = 2
	}
	if c.MaxTokenBytes == 0 {
		c.MaxTokenBytes = 16
	}
	if c.Special == nil {
		c.Special = DefaultSpecial()
	}
	return c
}

func (c Config) check() error {
	if need := len(c.Special) + 256; c.VocabSize < need {
		return fmt.Errorf("bpetrain: a vocabulary of %d is too small: special tokens and bytes take %d", c.VocabSize, need)
	}
	if c.MinFrequency < 1 || c.MaxTokenBytes < 2 {
		return fmt.Errorf("bpetrain: minimum frequency %d and longest token %d have to be at least 1 and 2", c.MinFrequency, c.MaxTokenBytes)
	}
	seen := map[string]bool{}
	for _, s := range c.Special {
		if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) == 1 || seen[s] {
			return fmt.Errorf("bpetrain: special token %q is empty, a single character, not UTF-8 or there twice", s)
		}
		seen[s] = true
	}
	return nil
}

// Result is a trained tokenizer.
type Result struct {
	Tokens []string    // by id, in the printable byte form
	Merges [][2]string // by rank
	Config Config
}

// Train learns from documents. The order of the documents does not matter. The
// vocabulary is smaller than asked for if the corpus has no more pairs that occur
// often enough. For a corpus of UTF-8, without a bound on the length of tokens, the
// result is that of the original's BpeTrainer.
func Train(ctx context.Context, docs iter.Seq[string], cfg Config) (*Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	for doc := range docs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, w := range tokenizer.Words(strings.ToValidUTF8(doc, "\uFFFD")) {
			counts[w]++
		}
	}
	l := newLearner(cfg, counts)
	for len(l.tokens) < cfg.VocabSize && l.step() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return &Result{Tokens: l.tokens, Merges: l.merges, Config: cfg}, nil
}

type pair struct{ left, right int32 }

type word struct {
	symbols []int32
	count   int64
}

// learner is the state between two merges.
type learner struct {
	cfg    Config
	tokens []string
	ids    map[string]int32
	length []int // of each token, in bytes
	merges [][2]string
	words  []word
	count  map[pair]int64
	where  map[pair][]int32 // words that hold the pair, or did
	queue  queue
}

func newLearner(cfg Config, counts map[string]int64) *learner {
	l := &learner{cfg: cfg, ids: map[string]int32{}, count: map[pair]int64{}, where: map[pair][]int32{}}
	for _, s := range cfg.Special {
		l.token(s, len(s))
	}
	// The bytes get their ids in the order of their printable characters, as the
	// original's trainer gives them.
	alphabet := make([]rune, 256)
	for b := range alphabet {
		alphabet[b] = bytealphabet.Rune(byte(b))
	}
	sort.Slice(alphabet, func(i, j int) bool { return alphabet[i] < alphabet[j] })
	for _, r := range alphabet {
		l.token(string(r), 1)
	}

	// Sorted, so that nothing depends on the order of a map.
	texts := make([]string, 0, len(counts))
	for text := range counts {
		texts = append(texts, text)
	}
	sort.Strings(texts)
	for i, text := range texts {
		w := word{count: counts[text]}
		for j := range len(text) {
			w.symbols = append(w.symbols, l.ids[string(bytealphabet.Rune(text[j]))])
		}
		l.words = append(l.words, w)
		for j := 0; j+1 < len(w.symbols); j++ {
			p := pair{w.symbols[j], w.symbols[j+1]}
			l.count[p] += w.count
			l.note(p, int32(i))
		}
	}
	for p, n := range l.count {
		l.offer(p, n)
	}
	return l
}

// token gives the id of a token, a new one if there is none.
func (l *learner) token(s string, bytes int) int32 {
	if id, ok := l.ids[s]; ok {
		return id
	}
	id := int32(len(l.tokens))
	l.tokens = append(l.tokens, s)
	l.length = append(l.length, bytes)
	l.ids[s] = id
	return id
}

func (l *learner) note(p pair, word int32) {
	if at := l.where[p]; len(at) == 0 || at[len(at)-1] != word {
		l.where[p] = append(at, word)
	}
}

func (l *learner) offer(p pair, n int64) {
	if n >= int64(l.cfg.MinFrequency) && l.length[p.left]+l.length[p.right] <= l.cfg.MaxTokenBytes {
		heap.Push(&l.queue, counted{p, n})
	}
}

// step merges the most frequent pair; of equals the one with the smaller ids. It
// is false when no pair is left.
func (l *learner) step() bool {
	var best pair
	for {
		if len(l.queue) == 0 {
			return false
		}
		c := heap.Pop(&l.queue).(counted)
		now := l.count[c.pair]
		if now == c.count {
			best = c.pair
			break
		}
		l.offer(c.pair, now) // it has become rarer since it was queued
	}
	left, right := l.tokens[best.left], l.tokens[best.right]
	id := l.token(left+right, l.length[best.left]+l.length[best.right])
	l.merges = append(l.merges, [2]string{left, right})

	change := map[pair]int64{}
	var order []pair
	add := func(p pair, n int64) {
		if _, ok := change[p]; !ok {
			order = append(order, p)
		}
		change[p] += n
	}
	where := l.where[best]
	delete(l.where, best)
	for _, at := range where {
		w := &l.words[at]
		for i := 0; i+1 < len(w.symbols); i++ {
			add(pair{w.symbols[i], w.symbols[i+1]}, -w.count)
		}
		w.symbols = replace(w.symbols, best, id)
		for i := 0; i+1 < len(w.symbols); i++ {
			p := pair{w.symbols[i], w.symbols[i+1]}
			add(p, w.count)
			if p.left == id || p.right == id {
				l.note(p, at)
			}
		}
	}
	for _, p := range order {
		n := change[p]
		if n == 0 {
			continue
		}
		l.count[p] += n
		if l.count[p] == 0 {
			delete(l.count, p)
		} else if n > 0 {
			l.offer(p, l.count[p])
		}
	}
	return true
}

// replace puts id for every occurrence of p, from the left, in place.
func replace(symbols []int32, p pair, id int32) []int32 {
	out := symbols[:0]
	for i := 0; i < len(symbols); i++ {
		if i+1 < len(symbols) && symbols[i] == p.left && symbols[i+1] == p.right {
			out = append(out, id)
			i++
		} else {
			out = append(out, symbols[i])
		}
	}
	return out
}

type counted struct {
	pair  pair
	count int64
}

type queue []counted

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.count != b.count:
		return a.count > b.count
	case a.pair.left != b.pair.left:
		return a.pair.left < b.pair.left
	}
	return a.pair.right < b.pair.right
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(counted)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
