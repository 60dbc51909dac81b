package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/native"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// The batch of the step that doctor trains.
const (
	stepRows, stepLength = 8, 128
	stepTime             = 60 * time.Second
)

// stepResult is what one training step of the bundled model came to.
type stepResult struct {
	Model        string  `json:"model"`
	Device       string  `json:"device"`
	Arithmetic   string  `json:"arithmetic"`
	Tokens       int     `json:"tokens"`
	Seconds      float64 `json:"seconds"`
	TokensPerSec float64 `json:"tokens_per_sec"`
	// LossBefore and LossAfter are of the same batch, in nats for each token.
	LossBefore float64 `json:"loss_before"`
	LossAfter  float64 `json:"loss_after"`
}

// trainOneStep trains the bundled model in a child process, so that a training
// that is killed for its memory, or dies of a bad instruction, is a finding and
// not the end of this program, and its memory is given back.
func trainOneStep(ctx context.Context) (stepResult, error) {
	var out stepResult
	self, err := os.Executable()
	if err != nil {
		return out, fmt.Errorf("find own program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, childStep)
	var said bytes.Buffer
	cmd.Stderr = &said
	data, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return out, fmt.Errorf("no step within %s: %w", stepTime, ctx.Err())
	case err != nil:
		last := strings.TrimSpace(said.String())
		if i := strings.LastIndexByte(last, '\n'); i >= 0 && !strings.HasPrefix(last, "fatal") {
			last = last[i+1:]
		}
		return out, fmt.Errorf("%w: %.300s", err, last)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("the step's answer cannot be read: %w", err)
	}
	return out, nil
}

// stepMain is the child: it prints a stepResult.
func stepMain(w io.Writer) int {
	r, err := step(context.Background())
	if err == nil {
		err = json.NewEncoder(w).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// step trains by LoRA, on one batch: the first update warms up, the second is
// measured, and both together must lower the loss, as they do where the machine
// computes right.
func step(ctx context.Context) (out stepResult, err error) {
	dir, err := os.MkdirTemp("", "tunemesh-doctor-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, models.Mini()); err != nil {
		return out, fmt.Errorf("unpack the bundled model: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return out, err
	}
	shape, err := model.ParseConfig(data)
	if err != nil {
		return out, err
	}
	c := contract.Config{}.WithDefaults().Training
	c.Method, c.BasePrecision, c.LearningRate = "lora", "auto", 2e-3
	e, err := native.Open(ctx, engine.Spec{ModelName: models.MiniName, ModelDir: dir, Shape: shape, Training: c, Seed: 1, MaxTokens: stepRows * stepLength, ScratchDir: dir})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	batch := stepBatch(shape.VocabSize)
	mean := func(sum float64, targets int, err error) (float64, error) { return sum / float64(targets), err }
	before, err := mean(e.Loss(batch))
	if err != nil {
		return out, err
	}
	var took time.Duration
	for i := range 2 {
		started := time.Now()
		if _, err := e.Step(engine.Step{Micro: [][]model.Sequence{batch}, FirstMicro: uint64(i), Rate: c.LearningRate, MaxNorm: 1}); err != nil {
			return out, err
		}
		took = time.Since(started)
	}
	after, err := mean(e.Loss(batch))
	if err != nil {
		return out, err
	}
	if math.IsNaN(after) || math.IsInf(after, 0) || after >= before {
		return out, fmt.Errorf("the loss went from %.4f to %.4f: it should fall, so this machine or this build computes wrong", before, after)
	}
	d := e.Describe()
	tokens := stepRows * stepLength
	return stepResult{Model: models.MiniName, Device: d.Device, Arithmetic: d.Arithmetic, Tokens: tokens,
		Seconds: took.Seconds(), TokensPerSec: float64(tokens) / took.Seconds(), LossBefore: before, LossAfter: after}, nil
}

// stepBatch is made of a few tokens that come again and again, which is quickly
// learnt.
func stepBatch(vocabulary int) []model.Sequence {
	var batch []model.Sequence
	for row := range stepRows {
		s := model.Sequence{Tokens: make([]int32, stepLength), Weights: make([]float32, stepLength)}
		for i := range stepLength {
			s.Tokens[i], s.Weights[i] = int32((7*row+13*(i%8)+5)%vocabulary), 1
		}
		batch = append(batch, s)
	}
	return batch
}
