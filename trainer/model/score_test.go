package model_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

func TestContinuationsScoreAsWholeSequencesDo(t *testing.T) {
	for name, cfg := range families() {
		t.Run(name, func(t *testing.T) { checkScores(t, cfg) })
	}
}

func checkScores(t *testing.T, cfg model.Config) {
	m, err := model.NewRandom(cfg, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(model.LoRAConfig{Rank: 2, Alpha: 8, TargetModules: []string{"all-linear"}}, 1); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for _, p := range m.Params() { // B is zero at first
		for i := range p.Data {
			p.Data[i] = float32(rng.NormFloat64()) * 0.2
		}
	}
	tokens := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(rng.IntN(cfg.VocabSize))
		}
		return out
	}
	for _, length := range []int{1, 2, 17, 60} {
		prompt := tokens(length)
		continuations := [][]int32{tokens(3), tokens(1), {}, tokens(4), tokens(2)}
		got, err := m.Score(prompt, continuations)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range continuations {
			if len(c) == 0 {
				if len(got[i]) != 0 {
					t.Errorf("an empty continuation has %d scores", len(got[i]))
				}
				continue
			}
			want, err := m.Logprobs(append(append([]int32(nil), prompt...), c...), len(prompt))
			if err != nil {
				t.Fatal(err)
			}
			if len(got[i]) != len(want) {
				t.Fatalf("continuation %d has %d scores, want %d", i, len(got[i]), len(want))
			}
			for j := range want {
				if math.Abs(got[i][j]-want[j]) > 1e-4 {
					t.Errorf("prompt of %d, continuation %d, token %d: %v, want %v", length, i, j, got[i][j], want[j])
				}
			}
		}
	}
	if _, err := m.Score(tokens(62), [][]int32{tokens(3)}); err == nil {
		t.Error("a continuation beyond the context was scored")
	}
	if _, err := m.Score([]int32{50}, [][]int32{{1}}); err == nil {
		t.Error("a token outside the vocabulary was scored")
	}
	if _, err := m.Score(nil, [][]int32{{1}}); err == nil {
		t.Error("an empty prompt was scored")
	}
}
