package peft

import (
	"encoding/json"
	"math"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// The requests, as protocol.py has them.

type openRequest struct {
	Op           string    `json:"op"`
	ModelDir     string    `json:"model_dir"`
	Method       string    `json:"method"`
	Seed         uint64    `json:"seed"`
	Device       string    `json:"device"`
	Precision    string    `json:"precision"`
	Quantization string    `json:"quantization,omitempty"`
	Sharding     string    `json:"sharding,omitempty"`
	WeightDecay  float64   `json:"weight_decay"`
	Recompute    bool      `json:"recompute,omitempty"`
	LoRA         *loraSpec `json:"lora,omitempty"`
	Initial      string    `json:"initial,omitempty"`
	Threads      int       `json:"threads,omitempty"`
}

type loraSpec struct {
	Rank    int      `json:"r"`
	Alpha   float64  `json:"lora_alpha"`
	Dropout float64  `json:"lora_dropout"`
	RSLoRA  bool     `json:"use_rslora"`
	Targets []string `json:"target_modules"`
}

type openReply struct {
	Device     string `json:"device"`
	Arithmetic string `json:"arithmetic"`
	Version    string `json:"version"`
	Threads    int    `json:"threads"`
	Workers    int    `json:"workers"`
	Trainable  int64  `json:"trainable"`
	Parameters int64  `json:"parameters"`
	BaseBytes  int64  `json:"base_bytes"`
}

type stepRequest struct {
	Op         string       `json:"op"`
	Micro      [][]sequence `json:"micro"`
	FirstMicro uint64       `json:"first_micro"`
	Rate       float64      `json:"rate"`
	MaxNorm    float64      `json:"max_norm"`
}

type lossRequest struct {
	Op    string     `json:"op"`
	Batch []sequence `json:"batch"`
}

// lossReply answers step and loss. Numbers that are not finite come as null.
type lossReply struct {
	LossSum *float64 `json:"loss_sum"`
	Targets int      `json:"targets"`
	Norm    *float64 `json:"norm"`
	Skipped bool     `json:"skipped"`
}

type measureReply struct {
	PeakBytes int64 `json:"peak_bytes"`
}

type dirRequest struct {
	Op      string `json:"op"`
	Dir     string `json:"dir,omitempty"`
	Updates int64  `json:"updates,omitempty"`
	DType   string `json:"dtype,omitempty"`
	// Metadata goes into the header of an adapter's file.
	Metadata map[string]string `json:"metadata,omitempty"`
}

type reply struct {
	OK    json.RawMessage `json:"ok"`
	Error *contract.Error `json:"error"`
}

// sequence is a row: its tokens, and the half-open ranges of those that count.
type sequence struct {
	Tokens []int32  `json:"tokens"`
	Loss   [][2]int `json:"loss"`
}

func sequences(batch []model.Sequence) []sequence {
	list := make([]sequence, len(batch))
	for i, s := range batch {
		list[i] = sequence{Tokens: s.Tokens, Loss: ranges(s.Weights)}
	}
	return list
}

func ranges(weights []float32) [][2]int {
	list := [][2]int{}
	for i, w := range weights {
		if w == 0 {
			continue
		}
		if n := len(list); n > 0 && list[n-1][1] == i {
			list[n-1][1] = i + 1
			continue
		}
		list = append(list, [2]int{i, i + 1})
	}
	return list
}

func number(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}
