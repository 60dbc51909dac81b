package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

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

// judgeCommand is the node's program with its arguments; empty without one.
func judgeCommand() []string { return strings.Fields(os.Getenv(contract.EnvExportJudge)) }

// judged is a form of the tuned model that the node's program is asked about.
type judged struct {
	name    string // of the artifact
	model   string // path of a GGUF file
	adapter string // path of a GGUF adapter to put over it, or ""
	kind    string // number format, for the record
	bound   limit
}

// The question and the answer of contract.EnvExportJudge.
type (
	judgeQuestion struct {
		Model     string      `json:"model"`
		LoRAs     []judgeLoRA `json:"loras,omitempty"`
		Sequences [][]int32   `json:"sequences"`
	}
	judgeLoRA struct {
		Path  string  `json:"filePath"`
		Scale float64 `json:"scale"`
	}
	judgeAnswer struct {
		Sequences [][]struct {
			Logprobs []float64 `json:"logprobs"`
		} `json:"sequences"`
	}
)

// judge lets the node's program read a form, if there is one.
func (e *exporter) judge(ctx context.Context, form judged, p *proof) (*Judged, error) {
	command := judgeCommand()
	if len(command) == 0 {
		return nil, nil
	}
	question, err := e.question(form, p)
	if err != nil {
		return nil, err
	}
	program := filepath.Base(command[len(command)-1])
	answer, err := e.ask(ctx, command, program, form.name, question)
	if answer == nil || err != nil {
		return nil, err
	}
	var want, got [][]float32
	at := 0
	for i, ids := range question.Sequences {
		if i >= len(answer.Sequences) || len(answer.Sequences[i]) != len(ids) {
			return nil, differs("%s answers %d sequences of %d, or too few positions, for %s", program, len(answer.Sequences), len(question.Sequences), form.name)
		}
		for _, position := range answer.Sequences[i][p.probes[i].From:] {
			if len(position.Logprobs) != e.shape.VocabSize {
				return nil, differs("%s reads a vocabulary of %d tokens from %s, the model has %d", program, len(position.Logprobs), form.name, e.shape.VocabSize)
			}
			row := make([]float32, len(position.Logprobs))
			for j, v := range position.Logprobs {
				row[j] = float32(v)
			}
			got, want, at = append(got, row), append(want, p.want[at]), at+1
		}
	}
	// Log-probabilities are logits but for a constant: the divergence is the same.
	drift := compare(len(question.Sequences), form.kind, form.bound, want, got)
	j := &Judged{Program: program, Positions: drift.Positions, MaxKL: drift.MaxKL, MeanKL: drift.MeanKL, SameTop: drift.SameTop}
	if !(j.MaxKL <= drift.LimitKL && j.MeanKL <= drift.LimitMeanKL) {
		return j, differs("%s, read by %s, does not compute what was trained: KL up to %.4g nats (allowed: %.4g), %.4g on average (allowed: %.4g)", form.name, program, j.MaxKL, drift.LimitKL, j.MeanKL, drift.LimitMeanKL)
	}
	return j, nil
}

// question takes as many of the probes as make an answer of bearable size.
func (e *exporter) question(form judged, p *proof) (judgeQuestion, error) {
	var q judgeQuestion
	var err error
	if q.Model, err = filepath.Abs(form.model); err != nil {
		return q, err
	}
	if form.adapter != "" {
		path, err := filepath.Abs(form.adapter)
		if err != nil {
			return q, err
		}
		q.LoRAs = []judgeLoRA{{path, 1}}
	}
	values := 0
	for _, probe := range p.probes {
		if values += len(probe.Tokens) * e.shape.VocabSize; values > judgeValues && len(q.Sequences) > 0 {
			break
		}
		q.Sequences = append(q.Sequences, probe.Tokens)
	}
	return q, nil
}

// ask runs the program. One that cannot be started is said, and answers nothing.
func (e *exporter) ask(ctx context.Context, command []string, program, name string, q judgeQuestion) (*judgeAnswer, error) {
	question, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, command[0], command[1:]...)
	cmd.WaitDelay = 10 * time.Second // of a child that keeps the pipes open
	cmd.Stdin = bytes.NewReader(question)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		e.emit.Warn("NO_JUDGE", fmt.Sprintf("%s cannot be started: %v; %s is judged by this program alone", program, err, name), map[string]any{"hint": "set " + contract.EnvExportJudge + " on the node, or unset it"})
		return nil, nil
	}
	switch err := cmd.Wait(); {
	case ctx.Err() != nil:
		return nil, ctx.Err() // the stage is ended: the file is as good as before
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return nil, &contract.Error{Class: contract.ClassTransient, Code: "JUDGE_TIMEOUT", Message: fmt.Sprintf("%s did not answer for %s within %s", program, name, judgeTimeout), Hint: "see " + contract.EnvExportJudge + " on the node"}
	case err != nil:
		return nil, differs("%s refuses %s: %v: %.400s", program, name, err, bytes.TrimSpace(said.Bytes()))
	}
	answer := &judgeAnswer{}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return nil, &contract.Error{Class: contract.ClassConfig, Code: "BAD_JUDGE", Message: fmt.Sprintf("%s answers what cannot be read: %v", program, err), Hint: "see " + contract.EnvExportJudge + " on the node"}
	}
	return answer, nil
}
