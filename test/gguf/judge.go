package judge

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

//go:embed judge.mjs
var script []byte

//go:embed quantize.py
var quantizer []byte

//go:embed package.json
var manifest []byte

// Request is a question; only Model is required.
type Request struct {
	Model     string    `json:"model"`
	LoRAs     []LoRA    `json:"loras,omitempty"`
	Texts     []string  `json:"texts,omitempty"`     // tokenized, special tokens recognised
	Plain     []string  `json:"plain,omitempty"`     // tokenized, special tokens as text
	Sequences [][]int32 `json:"sequences,omitempty"` // ids to evaluate
	Top       int       `json:"top,omitempty"`       // 0: the whole vocabulary
	From      int       `json:"from,omitempty"`      // positions before are not in the answer
}

// LoRA is a GGUF adapter to apply.
type LoRA struct {
	Path  string  `json:"filePath"`
	Scale float64 `json:"scale"`
}

// Answer is llama.cpp's. An id is -1 where the model has none.
type Answer struct {
	BOS, EOS, EOT int32
	AddsBOS       bool
	Metadata      struct{ Name, Architecture string }
	Texts, Plain  [][]int32
	Sequences     [][]Position
}

// Position is what llama.cpp expects after one token. Logprobs is by id, in nats.
type Position struct {
	Top      int32
	Logprobs []float64
	Best     []Scored
}

// Scored is one of the most likely next tokens.
type Scored struct {
	ID      int32
	Logprob float64
}

// Judge runs llama.cpp.
type Judge struct{ dir string }

// New makes the judge ready, or skips the test: it wants node, 85 MB from npm once,
// and half a minute.
func New(t testing.TB) *Judge {
	t.Helper()
	if os.Getenv("TUNEMESH_GGUF") != "1" && os.Getenv("TUNEMESH_MODELS") != "1" {
		t.Skip("TUNEMESH_GGUF=1 asks llama.cpp, by node-llama-cpp from npm; left out of the fast suite because it is slow and may have to download")
	}
	dir, err := prepare()
	if err != nil {
		t.Fatalf("llama.cpp cannot be asked: %v", err)
	}
	return &Judge{dir}
}

func prepare() (string, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", err
	}
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, ".cache", "node-llama-cpp")
	_, missing := os.Stat(filepath.Join(dir, "node_modules", "node-llama-cpp", "package.json"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, data := range map[string][]byte{"judge.mjs": script, "speed.mjs": stopwatch, "quantize.py": quantizer, "package.json": manifest} {
		if have, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Equal(have, data) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return "", err
		}
	}
	if missing == nil {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// The other optional dependencies are the builds for GPUs and other systems, 640 MB.
	cmd := exec.CommandContext(ctx, "npm", "install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w: %s", err, out)
	}
	return dir, nil
}

func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}

// Command is the judge as a command line, for contract.EnvExportJudge.
func (j *Judge) Command() string { return "node " + filepath.Join(j.dir, "judge.mjs") }

// Ask puts one question. An error carries what llama.cpp said; a model that it
// refuses is such an error.
func (j *Judge) Ask(ctx context.Context, r Request) (*Answer, error) {
	var err error
	if r.Model, err = filepath.Abs(r.Model); err != nil {
		return nil, err
	}
	question, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(j.dir, "judge.mjs"))
	cmd.Dir = j.dir
	cmd.Stdin = bytes.NewReader(question)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("llama.cpp: %w: %s", err, said.Bytes())
	}
	answer := &Answer{}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return nil, fmt.Errorf("llama.cpp: %w in %.300s; %s", err, out.Bytes(), said.Bytes())
	}
	return answer, nil
}

// Quantize lets llama.cpp quantize a GGUF file by its own llama_model_quantize, which
// node-llama-cpp's library has and Python calls. ftype is a number of llama_ftype. It
// skips the test where there is no Python or no library for this machine.
func (j *Judge) Quantize(t testing.TB, source, target string, ftype int) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 to call llama.cpp's library with")
	}
	libraries, err := filepath.Glob(filepath.Join(j.dir, "node_modules", "@node-llama-cpp", "*", "bins", "*", "libllama.v*.so"))
	if err != nil || len(libraries) == 0 {
		t.Skip("node-llama-cpp has brought no library for this machine")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, filepath.Join(j.dir, "quantize.py"), filepath.Dir(libraries[0]), source, target, strconv.Itoa(ftype))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("llama.cpp's quantizer: %v: %s", err, out)
	}
}
