package pretrain

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/bpetrain"
)

// Config is the recipe.
type Config struct {
	Name  string
	Shape model.Config // VocabSize and token ids are filled in
	Vocab int          // tokens to learn

	RowTokens   int // tokens of a row
	RowsPerStep int
	Steps       int
	PeakRate    float64
	Warmup      int
	WeightDecay float64
	Seed        uint64

	// Dir gets the model, Work the checkpoints that an interrupted run goes on
	// from.
	Dir, Work string
	// SaveEvery is the number of steps between checkpoints.
	SaveEvery int
	Log       *slog.Logger
}

// Mini is the recipe of the bundled base model: a decoder of 3.2 million
// parameters, of which a quarter is the embedding.
func Mini() Config {
	return Config{
		Name: "tunemesh-mini",
		Shape: model.Config{
			Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu", TorchDType: "bfloat16",
			HiddenSize: 192, IntermediateSize: 512, NumLayers: 6, NumHeads: 6, NumKVHeads: 2, HeadDim: 32,
			MaxPositions: 512, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true,
		},
		Vocab: 4096, RowTokens: 128, RowsPerStep: 16, Steps: 2000, PeakRate: 2e-3, Warmup: 100,
		WeightDecay: 0.1, Seed: 20261124, SaveEvery: 100,
	}
}

// Report is what came of it.
type Report struct {
	Parameters, Tokens  int64
	Loss, HeldOutLoss   float64 // nats a token
	HeldOutPerplexity   float64
	TrainRows, HeldRows int
}

// Run learns the tokenizer and the model and writes the model's folder. Stopped
// by ctx, it has saved a checkpoint; run again it goes on from there.
func Run(ctx context.Context, c Config, corpus Corpus) (Report, error) {
	tok, err := learnTokenizer(ctx, c, corpus)
	if err != nil {
		return Report{}, err
	}
	end, _ := tok.TokenID("<|endoftext|>")
	stop, _ := tok.TokenID("<|im_end|>")
	c.Shape.VocabSize = tok.VocabSize()
	bos := int(end)
	c.Shape.BOSTokenID, c.Shape.EOSTokenIDs = &bos, model.TokenIDs{int(stop)}
	train := rows(corpus.Train, tok, end, c.RowTokens)
	held := rows(corpus.HeldOut, tok, end, c.RowTokens)
	if len(train) < c.RowsPerStep || len(held) == 0 {
		return Report{}, fmt.Errorf("pretrain: the corpus has %d rows to train on and %d held out: too few", len(train), len(held))
	}
	m, err := model.NewRandom(c.Shape, c.Seed)
	if err != nil {
		return Report{}, err
	}
	if err := m.TrainAll(); err != nil {
		return Report{}, err
	}
	c.Log.Info("pretraining", "parameters", c.Shape.NumParams(), "train_rows", len(train), "held_out_rows", len(held), "steps", c.Steps)
	r := &run{Config: c, model: m, train: train, held: held}
	if err := r.learn(ctx); err != nil {
		return Report{}, err
	}
	heldLoss, err := r.evaluate()
	if err != nil {
		return Report{}, err
	}
	report := Report{
		Parameters: c.Shape.NumParams(), Tokens: int64(c.Steps) * int64(c.RowsPerStep) * int64(c.RowTokens),
		Loss: r.loss, HeldOutLoss: heldLoss, HeldOutPerplexity: math.Exp(heldLoss), TrainRows: len(train), HeldRows: len(held),
	}
	return report, writeModel(c, m, report)
}

// learnTokenizer learns the vocabulary from what is trained on, or takes the one
// of an earlier start.
func learnTokenizer(ctx context.Context, c Config, corpus Corpus) (*tokenizer.Tokenizer, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("pretrain: %w", err)
	}
	if err := os.MkdirAll(c.Work, 0o755); err != nil {
		return nil, fmt.Errorf("pretrain: %w", err)
	}
	result, err := bpetrain.Train(ctx, slices.Values(corpus.Train), bpetrain.Config{VocabSize: c.Vocab})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(c.Dir, "tokenizer.json")
	if err := result.WriteFile(path); err != nil {
		return nil, err
	}
	return tokenizer.Load(path)
}

// run is a training in progress.
type run struct {
	Config
	model       *model.Model
	optim       *optim.AdamW
	train, held [][]int32
	loss        float64
}

func (r *run) learn(ctx context.Context) error {
	var tensors []optim.Tensor
	for _, p := range r.model.Params() {
		tensors = append(tensors, optim.Tensor{Name: p.Name, Data: p.Data, Grad: p.Grad, NoDecay: p.Norm})
	}
	settings := optim.DefaultAdamW()
	settings.Beta2, settings.WeightDecay = 0.95, r.WeightDecay
	var err error
	if r.optim, err = optim.NewAdamW(tensors, settings); err != nil {
		return err
	}
	if err := r.restore(); err != nil {
		return err
	}
	rate := optim.Schedule{Kind: "cosine", Peak: r.PeakRate, Warmup: r.Warmup, Total: r.Steps, MinRatio: 0.05}
	began, first := time.Now(), int(r.optim.Steps())
	for step := first; step < r.Steps; step++ {
		if ctx.Err() != nil {
			return fmt.Errorf("pretrain: stopped at step %d of %d, run again to go on: %w", step, r.Steps, ctx.Err())
		}
		r.model.ZeroGrad()
		sum, targets, err := r.model.LossAndGrad(r.batch(step))
		if err != nil {
			return err
		}
		r.loss = sum / float64(targets)
		if math.IsNaN(r.loss) || math.IsInf(r.loss, 0) {
			return fmt.Errorf("pretrain: the loss is %v at step %d", r.loss, step)
		}
		norm := optim.ScaleAndClip(tensors, 1/float64(targets), 1)
		r.optim.Step(rate.At(step))
		if done := step + 1; done%r.SaveEvery == 0 || done == r.Steps {
			if err := r.save(); err != nil {
				return err
			}
			held, err := r.evaluate()
			if err != nil {
				return err
			}
			perStep := time.Since(began) / time.Duration(done-first)
			r.Log.Info("step", "step", done, "loss", r.loss, "held_out_loss", held, "perplexity", math.Exp(held), "grad_norm", norm,
				"tokens_per_sec", float64(r.RowsPerStep*r.RowTokens)/perStep.Seconds(), "left", (perStep * time.Duration(r.Steps-done)).Round(time.Second))
		}
	}
	return nil
}

// batch returns the rows of a step: passes over all rows, each in an order of
// its own.
func (r *run) batch(step int) []model.Sequence {
	perPass := len(r.train) / r.RowsPerStep
	pass, at := step/perPass, step%perPass
	order := rand.New(rand.NewPCG(r.Seed, 0x726f7773<<16|uint64(pass))).Perm(len(r.train))
	var out []model.Sequence
	for _, i := range order[at*r.RowsPerStep : (at+1)*r.RowsPerStep] {
		out = append(out, whole(r.train[i]))
	}
	return out
}

// evaluate returns the loss on what was kept back, in nats a token.
func (r *run) evaluate() (float64, error) {
	var sum float64
	var targets int
	for chunk := range slices.Chunk(r.held[:min(len(r.held), 64)], r.RowsPerStep) {
		var batch []model.Sequence
		for _, row := range chunk {
			batch = append(batch, whole(row))
		}
		s, n, err := r.model.Loss(batch)
		if err != nil {
			return 0, err
		}
		sum, targets = sum+s, targets+n
	}
	return sum / float64(targets), nil
}

// whole is a row of which every token counts.
func whole(row []int32) model.Sequence {
	weights := make([]float32, len(row))
	for i := range weights {
		weights[i] = 1
	}
	return model.Sequence{Tokens: row, Weights: weights}
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("pretrain: encode %s: %w", path, err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	return nil
}
