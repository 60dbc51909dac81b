package judge_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/examples"
	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// llama.cpp reads the base model that is in the binary: the same ids for its
// chats and for tickets, the same expectations.
func TestTheBundledModel(t *testing.T) {
	j := judge.New(t)
	dir := filepath.Join("..", "..", "models", "tunemesh-mini")
	tok, err := tokenizer.Load(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	texts := strings.Split(string(examples.SupportTickets), "\n")[1:120]
	chat := "<|im_start|>user\nMy parcel has not arrived. Was soll ich tun?<|im_end|>\n<|im_start|>assistant\nshipping<|im_end|>\n"
	texts = append(texts, chat)
	file := export(t, dir, "F16")
	checkTokens(t, j, tok, file, texts)

	ids := tok.Encode(chat, false)
	a := ask(t, j, judge.Request{Model: file, Sequences: [][]int32{ids}})
	if end, _ := tok.TokenID("<|im_end|>"); a.EOS != end {
		t.Errorf("llama.cpp ends at %d, the model's turn ends with %d", a.EOS, end)
	}
	ours := distributions(t, load(t, dir), ids)
	worst := 0.0
	for i, p := range a.Sequences[0] {
		worst = max(worst, divergence(p.Logprobs, ours[i]))
		if best := slices.Index(ours[i], slices.Max(ours[i])); int(p.Top) != best && ours[i][best]-ours[i][p.Top] > 0.01 {
			t.Errorf("position %d: llama.cpp expects %d, we %d", i, p.Top, best)
		}
	}
	if worst > 1e-3 {
		t.Errorf("worst KL %.3g, want below 1e-3", worst)
	}
	t.Logf("%d positions, worst KL %.2g", len(ids), worst)
}
