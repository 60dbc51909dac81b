package model_test

import (
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

func TestInitialLoRAIsWhatAddLoRAAdds(t *testing.T) {
	for _, targets := range [][]string{{"all-linear"}, {"q_proj", "down_proj"}} {
		m, err := model.NewRandom(tiny(true), 3)
		if err != nil {
			t.Fatal(err)
		}
		lora := model.LoRAConfig{Rank: 4, Alpha: 8, TargetModules: targets}
		if err := m.AddLoRA(lora, 9); err != nil {
			t.Fatal(err)
		}
		got, err := tiny(true).InitialLoRA(lora, 9)
		if err != nil {
			t.Fatal(err)
		}
		want := m.Params()
		if len(got) != len(want) {
			t.Fatalf("%d tensors, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i].Name != want[i].Name || !slices.Equal(got[i].Shape, want[i].Shape) || !slices.Equal(got[i].Data, want[i].Data) {
				t.Errorf("%v: %s differs from %s", targets, got[i].Name, want[i].Name)
			}
		}
	}
}
