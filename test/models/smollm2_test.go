package models_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// importOnce imports one of the downloaded files once for all tests that want it.
type importOnce struct {
	file string
	once sync.Once
	dir  string
	err  error
}

var smolImport, gemmaImport = &importOnce{file: smolFile}, &importOnce{file: gemmaFile}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, i := range []*importOnce{smolImport, gemmaImport} {
		if i.dir != "" {
			os.RemoveAll(i.dir)
		}
	}
	os.Exit(code)
}

// folder gives the imported model.
func (i *importOnce) folder(t testing.TB) string {
	t.Helper()
	i.once.Do(func() {
		if i.dir, i.err = os.MkdirTemp("", "tunemesh-models-"); i.err != nil {
			return
		}
		var root string
		if root, i.err = repositoryRoot(); i.err == nil {
			_, i.err = importer.Import(context.Background(), filepath.Join(root, ".cache", "models", i.file), filepath.Join(i.dir, "model"), importer.Options{})
		}
	})
	if i.err != nil {
		t.Fatal(i.err)
	}
	return filepath.Join(i.dir, "model")
}

func folder(t testing.TB) string {
	t.Helper()
	smolLM2(t)
	return smolImport.folder(t)
}

func load(t testing.TB, dir string) (*model.Model, *tokenizer.Tokenizer) {
	t.Helper()
	m, err := tuned.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m.Model, tok
}

// The import says what the model is, in little memory.
func TestImport(t *testing.T) {
	path := smolLM2(t)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{"", weights.BF16} {
		runtime.GC()
		debug.FreeOSMemory()
		before, reset := resetPeak(t)
		began, out := time.Now(), filepath.Join(t.TempDir(), "model")
		d, err := importer.Import(context.Background(), path, out, importer.Options{DType: dtype})
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		if peak, ok := peakRSS(t); ok && reset {
			t.Logf("peak RSS %.0f MB, %.0f MB before", float64(peak)/1e6, float64(before)/1e6)
			if peak-before > maxImportMemory {
				t.Errorf("the import took %d MB of memory", (peak-before)/1e6)
			}
		}
		want := dtype
		if want == "" {
			want = weights.F32
		}
		if d.Architecture != "LlamaForCausalLM" || d.Parameters != 134515008 || d.Context != 8192 || d.DType != want ||
			d.SourceDType != "Q8_0, Q4_1" || d.License != "apache-2.0" || d.Template != "own" || d.Tokenizer != "byte-level BPE, 49152 tokens" {
			t.Errorf("%+v", d)
		}
		if len(d.Warnings) > 0 {
			t.Errorf("warned of %q, though its template, too, is one that can be trained with", d.Warnings)
		}
		var size int64
		for _, f := range d.Files {
			size += f.Size
		}
		t.Logf("%s: %.1f MB in, %.1f MB out in %v: %.0f MB/s written", d.DType, float64(st.Size())/1e6, float64(size)/1e6, took.Round(time.Millisecond), float64(size)/1e6/took.Seconds())
	}
}

// What was imported is itself a Hugging Face folder, and imported again the same model.
func TestImportedAgain(t *testing.T) {
	dir := folder(t)
	out := filepath.Join(t.TempDir(), "model")
	began := time.Now()
	d, err := importer.Import(context.Background(), dir, out, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if d.Kind != "huggingface" || d.Parameters != 134515008 {
		t.Errorf("%+v", d)
	}
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		was, err1 := os.ReadFile(filepath.Join(dir, name))
		now, err2 := os.ReadFile(filepath.Join(out, name))
		if err1 != nil || err2 != nil || !bytes.Equal(was, now) {
			t.Errorf("%s: %d and %d bytes, %v, %v", name, len(was), len(now), err1, err2)
		}
	}
	t.Logf("%v: %.0f MB/s", took.Round(time.Millisecond), 539.5/took.Seconds())
}

// maxImportMemory is far below the largest tensor (113 MB in F32): rows, and the
// vocabulary in several forms.
const maxImportMemory = 100e6

// resetPeak makes the kernel forget the largest memory so far, where there is such a
// thing, and gives the present one.
func resetPeak(t *testing.T) (int64, bool) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Logf("memory is not measured: %v", err)
		return 0, false
	}
	return peakRSS(t)
}

// peakRSS is the largest memory of this process in bytes.
func peakRSS(t *testing.T) (int64, bool) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10, true
		}
	}
	return 0, false
}

// llama.cpp gives every text the ids that the imported tokenizer gives it.
func TestSameTokens(t *testing.T) {
	path := smolLM2(t)
	j := judge.New(t)
	tok, err := tokenizer.Load(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	texts := hardTexts(t)
	a, err := j.Ask(context.Background(), judge.Request{Model: path, Texts: texts})
	if err != nil {
		t.Fatal(err)
	}
	ids := 0
	for i, text := range texts {
		want := tok.Encode(text, false)
		if ids += len(want); !slices.Equal(a.Texts[i], want) {
			t.Errorf("%q\n llama.cpp %v\n      ours %v", text, a.Texts[i], want)
		}
	}
	t.Logf("%d texts, %d ids", len(texts), ids)
}

func hardTexts(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("../../trainer/tokenizer/testdata/smollm.vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Text string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	texts := []string{
		"<|im_start|>user\nIs 2025-02-07 <b>a Friday</b>?<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|><repo_name>a/b<file_sep>x.py\n\tdef f(x):\r\n\n\n    return x**2  # 1234567 ",
		"ＡＢＣ １２３ ²³ ①② Ⅷ ½ ٣٤ 今日は、世界！ 👩‍👩‍👧‍👦🏳️‍🌈 é é ﬀ ß İı", "'tis I'LL don't  'S  ’s   \t \u00a0\u2003 x\u200by",
	}
	for _, v := range vectors {
		texts = append(texts, v.Text)
	}
	if len(texts) < 100 {
		t.Fatalf("only %d texts", len(texts))
	}
	return texts
}

// prompts are of three kinds: a chat, code, another language.
var prompts = []string{
	"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nThe capital of France is Paris.<|im_end|>\n",
	"def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\nprint([fibonacci(i) for i in range(10)])",
	"Die Katze sitzt auf der Matte. Le chat est assis sur le tapis. 猫がマットの上に座っている。",
}

// On the dequantized weights llama.cpp and our forward pass expect the same token at
// every position, and nearly the same distribution.
func TestSameLogits(t *testing.T) {
	j := judge.New(t)
	dir := folder(t)
	m, tok := load(t, dir)
	// llama.cpp rounds activations to eight bits to multiply with quantized weights;
	// the same weights in F32 leave no noise but the order of sums.
	exact := filepath.Join(t.TempDir(), "f32.gguf")
	if err := gguf.Export(context.Background(), dir, exact, gguf.Options{Type: "F32"}); err != nil {
		t.Fatal(err)
	}
	var sequences [][]int32
	for _, p := range prompts {
		sequences = append(sequences, tok.Encode(p, false))
	}
	compare(t, j, m, exact, sequences, 1e-6, true)
	t.Run("the original file, with activations in 8 bits", func(t *testing.T) {
		compare(t, j, m, smolLM2(t), sequences, 0.1, false)
	})
	// As near as llama.cpp's own 8 bits are, which round the same things.
	eight, err := tuned.Files{Base: dir}.OpenAs(model.Q8)
	if err != nil {
		t.Fatal(err)
	}
	defer eight.Close()
	t.Run("served in 8 bits", func(t *testing.T) { compare(t, j, eight.Model, exact, sequences, 0.1, false) })
	t.Run("llama.cpp in 8 bits", func(t *testing.T) {
		rounded := filepath.Join(t.TempDir(), "q8_0.gguf")
		if err := gguf.Export(context.Background(), dir, rounded, gguf.Options{Type: "Q8_0"}); err != nil {
			t.Fatal(err)
		}
		compare(t, j, m, rounded, sequences, 0.1, false)
	})
}

func compare(t *testing.T, j *judge.Judge, m *model.Model, path string, sequences [][]int32, maxKL float64, sameTop bool) {
	t.Helper()
	a, err := j.Ask(context.Background(), judge.Request{Model: path, Sequences: sequences})
	if err != nil {
		t.Fatal(err)
	}
	positions, differ := 0, 0
	var worstKL, sumKL, worst float64
	for i, ids := range sequences {
		s := m.NewSession()
		for at, id := range ids {
			logits, err := s.Append([]int32{id})
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := logSoftmax(logits), a.Sequences[i][at]
			if len(ours) != len(theirs.Logprobs) {
				t.Fatalf("%d and %d tokens", len(ours), len(theirs.Logprobs))
			}
			kl := 0.0
			for v, p := range theirs.Logprobs {
				kl += math.Exp(p) * (p - ours[v])
				worst = max(worst, math.Abs(p-ours[v]))
			}
			positions++
			sumKL, worstKL = sumKL+kl, max(worstKL, kl)
			if top := slices.Index(ours, slices.Max(ours)); top != int(theirs.Top) {
				differ++
				if sameTop {
					t.Errorf("prompt %d, position %d: llama.cpp expects %d, we %d", i, at, theirs.Top, top)
				}
			}
		}
	}
	t.Logf("%d positions: KL mean %.3g, worst %.3g; max |delta log p| %.3g; other top %d", positions, sumKL/float64(positions), worstKL, worst, differ)
	if worstKL > maxKL || math.IsNaN(worstKL) {
		t.Errorf("worst KL %.3g, want below %.3g", worstKL, maxKL)
	}
}

func logSoftmax(logits []float32) []float64 {
	top := float64(slices.Max(logits))
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - top)
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l) - top - math.Log(sum)
	}
	return out
}

// The model answers a question.
func TestGeneratesEnglish(t *testing.T) {
	m, tok := load(t, folder(t))
	end, ok := tok.TokenID("<|im_end|>")
	if !ok {
		t.Fatal("no <|im_end|>")
	}
	out, err := m.NewSession().Greedy(tok.Encode("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", false), 40, []int32{end})
	if err != nil {
		t.Fatal(err)
	}
	answer := tok.Decode(out, true)
	t.Logf("%q", answer)
	if !strings.Contains(answer, "Paris") || len(out) == 40 {
		t.Errorf("%q is no answer", answer)
	}
}

// Each of some steps of LoRA training lowers the loss.
func TestTrainingLowersTheLoss(t *testing.T) {
	m, tok := load(t, folder(t))
	if err := m.AddLoRA(model.LoRAConfig{Rank: 8, Alpha: 16, TargetModules: []string{"all-linear"}}, 1); err != nil {
		t.Fatal(err)
	}
	var batch []model.Sequence
	for _, text := range [][2]string{
		{"<|im_start|>user\nMy parcel never arrived.<|im_end|>\n<|im_start|>assistant\n", "category: delivery<|im_end|>"},
		{"<|im_start|>user\nI was charged twice.<|im_end|>\n<|im_start|>assistant\n", "category: billing<|im_end|>"},
	} {
		ids := tok.Encode(text[0], false)
		from := len(ids)
		ids = append(ids, tok.Encode(text[1], false)...)
		w := make([]float32, len(ids))
		for i := from; i < len(w); i++ {
			w[i] = 1
		}
		batch = append(batch, model.Sequence{Tokens: ids, Weights: w})
	}
	losses := train(t, m, batch, 4)
	t.Logf("losses %.4f", losses)
	for i := 1; i < len(losses); i++ {
		if losses[i] >= losses[i-1] {
			t.Errorf("step %d raised the loss from %.4f to %.4f", i, losses[i-1], losses[i])
		}
	}
}

// train takes steps and gives the mean loss before each of them and after the last.
func train(t *testing.T, m *model.Model, batch []model.Sequence, steps int) []float64 {
	t.Helper()
	var tensors []optim.Tensor
	for _, p := range m.Params() {
		tensors = append(tensors, optim.Tensor{Name: p.Name, Data: p.Data, Grad: p.Grad})
	}
	adam, err := optim.NewAdamW(tensors, optim.DefaultAdamW())
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for step := range steps {
		m.ZeroGrad()
		m.SetStep(uint64(step))
		sum, targets, err := m.LossAndGrad(batch)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, sum/float64(targets))
		optim.ScaleAndClip(tensors, 1/float64(targets), 1)
		adam.Step(5e-4)
	}
	sum, targets, err := m.Loss(batch)
	if err != nil {
		t.Fatal(err)
	}
	return append(losses, sum/float64(targets))
}
