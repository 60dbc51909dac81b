// Package stagetest runs a stage in a test as a node agent would: with an input
// document, folders and a log. It knows the contract and no stage.
package stagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Log is what a stage wrote to its standard output.
type Log struct {
	Events []contract.Event
}

// Warning returns the first warning with a code.
func (l Log) Warning(code string) (contract.Event, bool) {
	for _, e := range l.Events {
		if e.Level == contract.LevelWarn && e.ErrorCode == code {
			return e, true
		}
	}
	return contract.Event{}, false
}

// Input makes the input document of a stage whose source file holds data. config
// is a JSON object.
func Input(t testing.TB, stage, file string, data []byte, config string) contract.Input {
	t.Helper()
	dir := t.TempDir()
	in := contract.Input{
		Contract: contract.Version, RunID: "job", Stage: stage, Kind: stage, Attempt: 1,
		Config:    json.RawMessage(config),
		InputDir:  filepath.Join(dir, "in"),
		OutputDir: filepath.Join(dir, "out"), CheckpointDir: filepath.Join(dir, "checkpoints"), ScratchDir: filepath.Join(dir, "scratch"),
		PreviousOutput: map[string]json.RawMessage{},
	}
	for _, d := range []string{in.OutputDir, in.CheckpointDir, in.ScratchDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	AddFile(t, &in, contract.SourceInputs, file, data)
	return in
}

// AddFile adds an input artifact.
func AddFile(t testing.TB, in *contract.Input, stage, name string, data []byte) {
	t.Helper()
	path := filepath.Join(in.InputDir, stage, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	in.Inputs = append(in.Inputs, contract.File{Stage: stage, Name: name, Path: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
}

// Next gives the input of a stage that follows one with result, on the same source
// and model files.
func Next(t testing.TB, before contract.Input, result contract.Result, stage string) contract.Input {
	t.Helper()
	in := before
	in.Stage, in.Kind = stage, stage
	in.OutputDir = t.TempDir()
	in.PreviousOutput = map[string]json.RawMessage{}
	for k, v := range before.PreviousOutput {
		in.PreviousOutput[k] = v
	}
	out, err := json.Marshal(result.Output)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > 64<<10 {
		t.Errorf("the output of %s is %d bytes, the contract allows 64 KiB", before.Stage, len(out))
	}
	in.PreviousOutput[before.Stage] = out
	return in
}

// Run runs a stage and returns its result, its log and its error.
func Run(ctx context.Context, t testing.TB, stage contract.Stage, in contract.Input) (contract.Result, Log, error) {
	t.Helper()
	var out bytes.Buffer
	result, err := stage(ctx, in, contract.NewEmitter(&out, "TestAgent", time.Now))
	var log Log
	for d := json.NewDecoder(&out); d.More(); {
		var e contract.Event
		if err := d.Decode(&e); err != nil {
			t.Fatalf("a line of the log is no event: %v", err)
		}
		log.Events = append(log.Events, e)
	}
	for name, a := range result.Artifacts {
		if _, err := os.Stat(filepath.Join(in.OutputDir, filepath.FromSlash(a.Path))); err != nil {
			t.Errorf("artifact %s: %v", name, err)
		}
	}
	return result, log, err
}
