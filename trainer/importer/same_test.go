package importer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// The same weights come in many files: tensors in any order, in one file or several,
// as safetensors or as GGUF, which has an order and names of its own. What the mesh
// keeps is one and the same file, with one digest, and a training on it ends with the
// same bits.
func TestTheSameWeightsAreTheSameModelHoweverTheyCame(t *testing.T) {
	all := families()
	all["LlamaForCausalLM"] = nil
	for name, change := range all {
		for _, dtype := range []string{weights.F32, weights.BF16} {
			t.Run(name+"/"+dtype, func(t *testing.T) {
				ordered := newSource(t, "smollm", change)
				tensors := ordered.tensors(dtype)
				for i, w := range tensors { // a GGUF file has its vectors in F32
					if len(w.Shape) < 2 {
						tensors[i] = ordered.coarse(w.Name, w.Shape...)
					}
				}
				ordered.save(tensors)
				shuffled := newSource(t, "smollm", change)
				mixed := slices.Clone(tensors)
				rand.New(rand.NewPCG(3, 3)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
				shuffled.saveShards(mixed)
				file := filepath.Join(t.TempDir(), "x.gguf")
				if err := gguf.Export(context.Background(), ordered.dir, file, gguf.Options{Type: dtype}); err != nil {
					t.Fatal(err)
				}
				digests, adapters := map[string][32]byte{}, map[string][]byte{}
				for way, from := range map[string]string{"one file": ordered.dir, "shards in another order": shuffled.dir, "GGUF": file} {
					_, out := run(t, from, importer.Options{})
					raw, err := os.ReadFile(filepath.Join(out, weights.SingleName))
					if err != nil {
						t.Fatal(err)
					}
					digests[way], adapters[way] = sha256.Sum256(raw), trained(t, out)
				}
				for way := range digests {
					if digests[way] != digests["one file"] {
						t.Errorf("%s: the digest of the weights differs", way)
					}
					if !bytes.Equal(adapters[way], adapters["one file"]) {
						t.Errorf("%s: the trained adapter differs", way)
					}
				}
			})
		}
	}
}

// trained makes three updates of an adapter on a model's folder and returns it.
func trained(t *testing.T, dir string) []byte {
	t.Helper()
	in := stagetest.Input(t, "training", "data.csv", []byte("not read"),
		`{"model":"m","export":{"skip_merged":true},"training":{"epochs":1,"batch_size":4,"rank":4,"learning_rate":0.01,"dropout":0.1,"engine":"native"}}`)
	for _, name := range []string{"config.json", weights.SingleName} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		stagetest.AddFile(t, &in, contract.ModelInputs, name, raw)
	}
	for name, n := range map[string]int{sample.TrainFile: 12, sample.ValidationFile: 4} {
		var data []byte
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		for i := range n {
			s := sample.Sample{Row: int64(i + 2), PromptTokens: 6, Loss: [][2]int{{6, 12}}}
			for range 12 {
				s.Tokens = append(s.Tokens, int32(rng.IntN(200)))
			}
			data = sample.Append(data, &s)
		}
		stagetest.AddFile(t, &in, "preprocessing", name, data)
	}
	result, _, err := stagetest.Run(t.Context(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	if s := result.Output[training.OutputKey].(training.Summary); s.Steps != 3 || s.FinalLoss == 0 {
		t.Errorf("%+v", s)
	}
	raw, err := os.ReadFile(filepath.Join(in.OutputDir, training.AdapterFolder, adapter.WeightsName))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
