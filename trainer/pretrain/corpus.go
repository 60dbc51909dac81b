package pretrain

import (
	"math/rand/v2"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// Corpus is the text to learn from, a document an entry, and what is kept back
// to measure on.
type Corpus struct {
	Train, HeldOut []string
}

// heldOutEvery is the share of the documents that is kept back.
const heldOutEvery = 100

// Gather mixes prose with chats about it and shuffles all, by the seed alone.
func Gather(prose []string, seed uint64) Corpus {
	docs := append([]string(nil), prose...)
	docs = append(docs, Chats(prose, 4, seed)...)
	rng := rand.New(rand.NewPCG(seed, 0x636f72707573))
	rng.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
	var c Corpus
	for i, d := range docs {
		if i%heldOutEvery == 0 {
			c.HeldOut = append(c.HeldOut, d)
		} else {
			c.Train = append(c.Train, d)
		}
	}
	return c
}

// rows encodes documents, each ended by the end token, one after the other, and
// cuts the stream into rows of length tokens; the rest is dropped.
func rows(docs []string, tok *tokenizer.Tokenizer, end int32, length int) [][]int32 {
	var stream []int32
	for _, d := range docs {
		stream = append(stream, tok.Encode(d, false)...)
		stream = append(stream, end)
	}
	var out [][]int32
	for ; len(stream) >= length; stream = stream[length:] {
		out = append(out, stream[:length])
	}
	return out
}
