package export

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// JudgeVariable names a program on the node that reads GGUF files by itself, with its
// arguments, parted by spaces. It gets {"model": path, "sequences": [[ids]]} on its
// standard input and answers {"sequences": [[{"logprobs": [nats by id]}]]}: for every
// token of a sequence, the distribution of the next one. test/gguf/judge.mjs is one,
// by llama.cpp. It is the node's setting and no job's, since it is run.
const JudgeVariable = "TUNEMESH_EXPORT_JUDGE"

// Judged is what another program made of a file.
type Judged struct {
	Program   string  `json:"program"`
	Positions int     `json:"positions"`
	MaxKL     float64 `json:"max_kl"` // nats, from the tuned model to the program's reading
	MeanKL    float64 `json:"mean_kl"`
	SameTop   float64 `json:"same_top"`
}

const (
	judgeTimeout = 10 * time.Minute
	judgeValues  = 4 << 20 // distributions are JSON: no more values than this
)

// judge lets the node's program read a file, if there is one.
func (e *exporter) judge(ctx context.Context, path, kind string, p *proof) (*Judged, error) {
	command := strings.Fields(os.Getenv(JudgeVariable))
	if len(command) == 0 {
		return nil, nil
	}
	var request struct {
		Model     string    `json:"model"`
		Sequences [][]int32 `json:"sequences"`
	}
	var err error
	if request.Model, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	values := 0
	for _, probe := range p.probes {
		if values += len(probe.Tokens) * e.shape.VocabSize; values > judgeValues && len(request.Sequences) > 0 {
			break
		}
		request.Sequences = append(request.Sequences, probe.Tokens)
	}
	question, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(question)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	program := filepath.Base(command[len(command)-1])
	if err := cmd.Start(); err != nil {
		e.emit.Warn("NO_JUDGE", fmt.Sprintf("%s cannot be started: %v; the file is judged by this program alone", program, err), map[string]any{"hint": "set " + JudgeVariable + " on the node, or unset it"})
		return nil, nil
	}
	if err := cmd.Wait(); err != nil {
		return nil, differs("%s refuses %s: %v: %.400s", program, filepath.Base(path), err, bytes.TrimSpace(said.Bytes()))
	}
	var answer struct {
		Sequences [][]struct {
			Logprobs []float64 `json:"logprobs"`
		} `json:"sequences"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return nil, &contract.Error{Class: contract.ClassConfig, Code: "BAD_JUDGE", Message: fmt.Sprintf("%s answers no JSON: %v", program, err), Hint: "see " + JudgeVariable}
	}
	var want, got [][]float32
	at := 0
	for i, ids := range request.Sequences {
		if i >= len(answer.Sequences) || len(answer.Sequences[i]) != len(ids) {
			return nil, differs("%s answers %d sequences of %d, or too few positions, for %s", program, len(answer.Sequences), len(request.Sequences), filepath.Base(path))
		}
		for _, position := range answer.Sequences[i][p.probes[i].From:] {
			if len(position.Logprobs) != e.shape.VocabSize {
				return nil, differs("%s reads a vocabulary of %d tokens from %s, the model has %d", program, len(position.Logprobs), filepath.Base(path), e.shape.VocabSize)
			}
			row := make([]float32, len(position.Logprobs))
			for j, v := range position.Logprobs {
				row[j] = float32(v)
			}
			got, want, at = append(got, row), append(want, p.want[at]), at+1
		}
	}
	// Log-probabilities are logits but for a constant: the divergence is the same.
	drift := compare(len(request.Sequences), kind, wider(limits[kind], p.bound), want, got)
	j := &Judged{Program: program, Positions: drift.Positions, MaxKL: drift.MaxKL, MeanKL: drift.MeanKL, SameTop: drift.SameTop}
	if !(j.MaxKL <= drift.LimitKL && j.MeanKL <= drift.LimitMeanKL) {
		return j, differs("%s, read by %s, does not compute what was trained: KL up to %.4g nats (allowed: %.4g), %.4g on average (allowed: %.4g)", filepath.Base(path), program, j.MaxKL, drift.LimitKL, j.MeanKL, drift.LimitMeanKL)
	}
	return j, nil
}
