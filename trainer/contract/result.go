package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Statuses of a result.
const (
	StatusSuccess = "success"
	StatusError   = "error"
)

// Result is the document that a stage writes to the path in TUNEMESH_RESULT as
// its last act. A stage that ends without one has crashed.
type Result struct {
	Status string `json:"status"`
	// Output is passed to every descendant as previous_output[stage]. Keep it
	// small (64 KiB at most): bytes belong into artifacts.
	Output map[string]any `json:"output"`
	// Artifacts maps a name to a file or folder under output_dir. A folder's
	// files become artifacts NAME/RELATIVE-PATH.
	Artifacts map[string]Artifact `json:"artifacts"`
	// Metrics are final numbers for monitoring: accuracy, rows_per_second.
	Metrics map[string]float64 `json:"metrics"`
	Error   *Error             `json:"error,omitempty"`
}

// Places say where in the object store an artifact belongs.
const (
	PlaceArtifact  = "artifact"  // artifacts/JOB/..., the default
	PlaceProcessed = "processed" // datasets/processed/JOB/...
	PlaceAdapter   = "adapter"   // models/adapters/JOB/...
	PlaceMerged    = "merged"    // models/merged/JOB/...
	PlaceGGUF      = "gguf"      // models/gguf/JOB/...
)

// Artifact is one entry of Result.Artifacts. In JSON it is an object, or just
// the path as a string.
type Artifact struct {
	Path  string `json:"path"` // relative to output_dir
	Place string `json:"place,omitempty"`
}

// UnmarshalJSON accepts "file.txt" as well as {"path": "file.txt"}.
func (a *Artifact) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &a.Path)
	}
	type plain Artifact
	return json.Unmarshal(data, (*plain)(a))
}

// Class says what kind of failure an error is, and so whether trying again can
// help.
type Class string

// Error classes.
const (
	ClassBadInput    Class = "bad_input"   // the user's data; never retried
	ClassConfig      Class = "config"      // the job's config; never retried
	ClassUnsupported Class = "unsupported" // this build cannot do it; never retried
	ClassResources   Class = "resources"   // out of memory, disk or GPU memory
	ClassTransient   Class = "transient"   // network, store, lock
	ClassInterrupted Class = "interrupted" // told to stop; a checkpoint is there
	ClassCrashed     Class = "crashed"     // ended without a result
	ClassInternal    Class = "internal"    // a fault of the stage itself
)

// Retryable says whether another attempt may succeed with the same input.
func (c Class) Retryable() bool {
	switch c {
	case ClassBadInput, ClassConfig, ClassUnsupported:
		return false
	}
	return true
}

// Error is why a stage failed, for a person and for the scheduler.
type Error struct {
	Class   Class  `json:"class"`
	Code    string `json:"code"` // UPPER_SNAKE: MISSING_VALUES
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Row     int64  `json:"row,omitempty"` // from 1, the header is row 1
	Column  string `json:"column,omitempty"`
	Field   string `json:"field,omitempty"` // of the config: training.rank
	Hint    string `json:"hint,omitempty"`  // what to do about it
	// Figures are what was measured, for the event that reports the error.
	Figures map[string]any `json:"figures,omitempty"`
}

// Error implements error: the message with its place.
func (e *Error) Error() string {
	place := ""
	if e.File != "" {
		place += " in " + e.File
	}
	if e.Row > 0 {
		place += fmt.Sprintf(" at row %d", e.Row)
	}
	if e.Column != "" {
		place += fmt.Sprintf(" column %q", e.Column)
	}
	if e.Field != "" {
		place += " (config " + e.Field + ")"
	}
	return fmt.Sprintf("%s: %s%s", e.Code, e.Message, place)
}

// AsError turns any error into a stage error; one that is none yet is internal.
func AsError(err error) *Error {
	var stage *Error
	if errors.As(err, &stage) {
		return stage
	}
	return &Error{Class: ClassInternal, Code: "INTERNAL", Message: err.Error()}
}

// ReadResult reads and checks a result document.
func ReadResult(path string) (Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Result{}, fmt.Errorf("contract: read result: %w", err)
	}
	return ParseResult(data)
}

// ParseResult decodes and checks a result document.
func ParseResult(data []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		return Result{}, fmt.Errorf("contract: result document: %w", err)
	}
	switch r.Status {
	case StatusSuccess:
	case StatusError:
		if r.Error == nil {
			r.Error = &Error{Class: ClassInternal, Code: "UNSPECIFIED", Message: "the stage reported an error without saying which"}
		}
		if r.Error.Class == "" {
			r.Error.Class = ClassInternal
		}
	default:
		return Result{}, fmt.Errorf("contract: result has status %q, want success or error", r.Status)
	}
	for name, a := range r.Artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) || !filepath.IsLocal(filepath.FromSlash(name)) {
			return Result{}, fmt.Errorf("contract: artifact %q: path %q leaves output_dir", name, a.Path)
		}
		switch a.Place {
		case "", PlaceArtifact, PlaceProcessed, PlaceAdapter, PlaceMerged, PlaceGGUF:
		default:
			return Result{}, fmt.Errorf("contract: artifact %q: unknown place %q", name, a.Place)
		}
	}
	return r, nil
}

// WriteResult writes the result document so that a reader sees all of it or
// nothing.
func WriteResult(path string, r Result) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("contract: encode result: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".result-*")
	if err != nil {
		return fmt.Errorf("contract: write result: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return fmt.Errorf("contract: write result: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		tmp.Close()
		return fmt.Errorf("contract: write result: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("contract: write result: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("contract: write result: %w", err)
	}
	return nil
}
