package judge

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed speed.mjs
var stopwatch []byte

// Speed is how fast llama.cpp loaded a model and wrote, in seconds: Load of model
// and context, Prompt until the first token, Decode from the first to the last.
type Speed struct {
	Load, Prompt, Decode float64
	CPU                  float64 // processor time of Decode
	Tokens               []int32 // what it wrote
}

// TokensPerSecond is the speed of the decoding.
func (s Speed) TokensPerSecond() float64 { return float64(len(s.Tokens)-1) / s.Decode }

// Speed lets llama.cpp go on after the prompt for some tokens, on so many threads, in a
// process of its own. What is between two tokens of node-llama-cpp counts as well.
func (j *Judge) Speed(ctx context.Context, model string, prompt []int32, tokens, threads int) (Speed, error) {
	question, err := json.Marshal(map[string]any{"model": model, "prompt": prompt, "tokens": tokens, "threads": threads})
	if err != nil {
		return Speed{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(j.dir, "speed.mjs"))
	cmd.Dir = j.dir
	cmd.Stdin = bytes.NewReader(question)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return Speed{}, fmt.Errorf("llama.cpp: %w: %s", err, said.Bytes())
	}
	var s Speed
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return Speed{}, fmt.Errorf("llama.cpp: %w in %.300s", err, out.Bytes())
	}
	return s, nil
}
