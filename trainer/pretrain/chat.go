package pretrain

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Chats wraps a share of the documents into chats, so that the special tokens
// and the shape of a conversation are known to the model before it is tuned.
// The tasks are about the text itself - repeat it, continue it, find a word -
// and none of them sorts texts into classes.
func Chats(docs []string, every int, seed uint64) []string {
	rng := rand.New(rand.NewPCG(seed, 0x63686174))
	var chats []string
	for i, doc := range docs {
		if i%every != 0 {
			continue
		}
		first, _, _ := strings.Cut(doc, "\n")
		words := strings.Fields(first)
		if len(words) < 12 {
			continue
		}
		words = words[:min(len(words), 60)]
		text := strings.Join(words, " ")
		cut := len(words)/2 + rng.IntN(4)
		var ask, answer string
		switch rng.IntN(5) {
		case 0:
			ask, answer = "Repeat the text.\n\n"+text, text
		case 1:
			ask, answer = "Continue the text.\n\n"+strings.Join(words[:cut], " "), strings.Join(words[cut:], " ")
		case 2:
			ask, answer = "What is the first word of the text?\n\n"+text, words[0]
		case 3:
			ask, answer = "What is the last word of the text?\n\n"+text, words[len(words)-1]
		default:
			at := rng.IntN(len(words) - 1)
			ask, answer = fmt.Sprintf("Which word follows %q in the text?\n\n%s", words[at], text), words[at+1]
		}
		chats = append(chats, chatML(ask, answer))
	}
	return chats
}

// chatML renders one exchange as the template chatml does.
func chatML(ask, answer string) string {
	return "<|im_start|>user\n" + ask + "<|im_end|>\n<|im_start|>assistant\n" + answer + "<|im_end|>\n"
}
