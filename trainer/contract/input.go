package contract

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Version is the version of the contract. It rises when a stage written for an
// older version could no longer run unchanged.
const Version = 1

// Environment variables that a stage process receives. The input document also
// arrives on standard input.
const (
	EnvInput  = "TUNEMESH_INPUT"  // path of the input document
	EnvResult = "TUNEMESH_RESULT" // path that the stage writes its result to
)

// EnvExportJudge names a program on the node that reads GGUF files by itself, with its
// arguments, parted by spaces. It gets
//
//	{"model": path, "loras": [{"filePath": path, "scale": 1}], "sequences": [[ids]]}
//
// on its standard input, loras only where an adapter is to be put over the model, and
// answers {"sequences": [[{"logprobs": [nats by id]}]]}: for every token of a sequence,
// the distribution of the next one. test/gguf/judge.mjs is one, by llama.cpp. It is the
// node's setting and no job's, since it is run; the agent hands it to the builtin export
// stage and to no other.
const EnvExportJudge = "TUNEMESH_EXPORT_JUDGE"

// Pseudo-stages under which the inputs that no stage made are found.
const (
	SourceInputs = "source" // the job's dataset, one file
	ModelInputs  = "model"  // the base model's files
	// AdapterInputs are the files of the adapter that a training goes on from, as
	// they are called there: adapter/adapter_config.json.
	AdapterInputs = "init_adapter"
)

// Input is the document that a stage process starts from.
type Input struct {
	Contract int    `json:"contract"`
	RunID    string `json:"run_id"` // the job's id
	Stage    string `json:"stage"`  // the node's name in the pipeline
	Kind     string `json:"kind"`   // what it does: training, custom, ...
	Attempt  int    `json:"attempt"`
	Fence    uint64 `json:"fence"`

	// Config is the job's config with the pipeline node's own config laid over
	// it, key by key at the top level.
	Config json.RawMessage `json:"config"`
	// PreviousOutput holds the output of every ancestor stage, by stage name.
	PreviousOutput map[string]json.RawMessage `json:"previous_output"`

	// Inputs are the artifacts of all ancestors, the source file and the base
	// model, already on the local disk under InputDir as STAGE/NAME.
	Inputs   []File `json:"inputs"`
	InputDir string `json:"input_dir"`
	// BaseSource is where the base model came from, hf:ORG/NAME@COMMIT or ollama:NAME;
	// empty where the mesh does not know.
	BaseSource string `json:"base_source,omitempty"`
	// OutputDir is empty at the start. Artifacts are written here.
	OutputDir string `json:"output_dir"`
	// CheckpointDir outlives the attempt: what an earlier attempt of this stage
	// left here (or the control plane kept of it) is found again.
	CheckpointDir string `json:"checkpoint_dir"`
	// ScratchDir is deleted when the attempt ends.
	ScratchDir string `json:"scratch_dir"`

	Devices Devices `json:"devices"`

	// TraceParent is the span that the stage runs under, as a W3C traceparent;
	// empty where nothing is traced. TRACEPARENT in the environment is the same.
	TraceParent string `json:"trace_parent,omitempty"`
}

// File is one input artifact on the local disk.
type File struct {
	Stage  string `json:"stage"` // the stage that made it, or source, or model
	Name   string `json:"name"`  // may hold slashes: adapter/adapter_config.json
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// OriginalName is what the user called the dataset's file; empty for others.
	OriginalName string `json:"original_name,omitempty"`
}

// Devices is what the placement reserved for the attempt.
type Devices struct {
	CPUCores    int   `json:"cpu_cores"`              // 0: all of the machine's
	MemoryBytes int64 `json:"memory_bytes,omitempty"` // 0: no limit set
	GPUs        []int `json:"gpus,omitempty"`         // device indexes
	// GPUMemoryBytes is what each of the GPUs has at least; 0: not known.
	GPUMemoryBytes int64  `json:"gpu_memory_bytes,omitempty"`
	Engine         string `json:"engine,omitempty"` // native, peft
}

// ReadInput reads and checks the document named by TUNEMESH_INPUT.
func ReadInput() (Input, error) {
	path := os.Getenv(EnvInput)
	if path == "" {
		return Input{}, fmt.Errorf("contract: %s is not set: a stage is started by a node agent, or by hand as docs/stage-contract.md shows", EnvInput)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Input{}, fmt.Errorf("contract: read input: %w", err)
	}
	return ParseInput(data)
}

// ParseInput decodes an input document. Unknown fields are ignored, so that a
// stage built for this version accepts additions.
func ParseInput(data []byte) (Input, error) {
	var in Input
	if err := json.Unmarshal(data, &in); err != nil {
		return Input{}, fmt.Errorf("contract: input document: %w", err)
	}
	if in.Contract != Version {
		return Input{}, fmt.Errorf("contract: input document has version %d, this stage speaks %d", in.Contract, Version)
	}
	if in.RunID == "" || in.Stage == "" || in.OutputDir == "" {
		return Input{}, fmt.Errorf("contract: input document lacks run_id, stage or output_dir")
	}
	return in, nil
}

// missing is an error of the pipeline: trying again cannot help.
func (in Input) missing(format string, args ...any) *Error {
	return &Error{
		Class: ClassConfig, Code: "MISSING_INPUT", Field: "pipeline.edges",
		Message: fmt.Sprintf("stage %q: ", in.Stage) + fmt.Sprintf(format, args...),
		Hint:    "an edge of the pipeline is missing: each stage sees what its ancestors made",
	}
}

// Find returns the input artifact that a stage made under a name.
func (in Input) Find(stage, name string) (File, error) {
	for _, f := range in.Inputs {
		if f.Stage == stage && f.Name == name {
			return f, nil
		}
	}
	return File{}, in.missing("the input %s/%s is not there", stage, name)
}

// madeByStage says whether an ancestor made a file, and not the world outside the
// pipeline.
func madeByStage(f File) bool {
	return f.Stage != SourceInputs && f.Stage != ModelInputs && f.Stage != AdapterInputs
}

// FindName returns the input artifact with a name from whichever ancestor made
// it, so that a stage need not know what a user called that ancestor. Two
// ancestors with the same artifact name are an error.
func (in Input) FindName(name string) (File, error) {
	var found []File
	for _, f := range in.Inputs {
		if f.Name == name && madeByStage(f) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return File{}, in.missing("no ancestor made an artifact %q", name)
	default:
		return File{}, in.missing("%d ancestors made an artifact %q: %s and %s", len(found), name, found[0].Stage, found[1].Stage)
	}
}

// Source returns the job's dataset file.
func (in Input) Source() (File, error) {
	for _, f := range in.Inputs {
		if f.Stage == SourceInputs {
			return f, nil
		}
	}
	return File{}, in.missing("there is no dataset file")
}

// Dir returns the local directory of a stage's artifacts under a name prefix,
// for inputs that are trees: Dir("model", ""), Dir("training", "adapter").
func (in Input) Dir(stage, prefix string) (string, error) {
	for _, f := range in.Inputs {
		if f.Stage == stage && (prefix == "" || strings.HasPrefix(f.Name, prefix+"/")) {
			return filepath.Join(in.InputDir, stage, filepath.FromSlash(prefix)), nil
		}
	}
	return "", in.missing("the input folder %s/%s is not there", stage, prefix)
}

// DirName is Dir for a tree from whichever ancestor made it.
func (in Input) DirName(prefix string) (string, error) {
	for _, f := range in.Inputs {
		if madeByStage(f) && strings.HasPrefix(f.Name, prefix+"/") {
			return in.Dir(f.Stage, prefix)
		}
	}
	return "", in.missing("no ancestor made a folder %q", prefix)
}

// Previous decodes the output of the one ancestor that carries key into out.
// Built-in stages use it so that users may name stages freely.
func (in Input) Previous(key string, out any) error {
	for stage, raw := range in.PreviousOutput {
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) != nil {
			continue
		}
		if value, ok := fields[key]; ok {
			if err := json.Unmarshal(value, out); err != nil {
				return fmt.Errorf("contract: output %q of stage %s: %w", key, stage, err)
			}
			return nil
		}
	}
	return in.missing("no ancestor put %q into its output", key)
}
