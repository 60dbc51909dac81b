package nodeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// maxOutput is the largest output in bytes of JSON: it goes into Raft.
const maxOutput = 64 << 10

// maxArtifacts is how many files an attempt may make: their list goes into
// Raft too.
const maxArtifacts = 1000

// conclude makes the report of an attempt whose process has ended, uploading
// what it made, and has it on disk.
func (r *runner) conclude(ctx context.Context) error {
	rec := r.snapshot()
	report, err := r.outcome(ctx, rec)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		report = api.AttemptReport{State: api.AttemptFailed, Error: asStageError(err)}
		if errors.Is(err, errStale) {
			return err
		}
	}
	_ = failpoint.At(failpoint.UploadUnrecorded)
	return r.update(func(rec *record) {
		report.Lines = r.lines
		rec.Phase, rec.Report = phaseUploaded, &report
	})
}

func (r *runner) outcome(ctx context.Context, rec record) (api.AttemptReport, error) {
	var report api.AttemptReport
	failed := func(e *api.StageError) (api.AttemptReport, error) {
		report.State, report.Error = api.AttemptFailed, e
		if rec.Reason == reasonCancelled {
			report.State = api.AttemptCancelled
		}
		return report, nil
	}
	if rec.Failure != nil {
		return failed(rec.Failure)
	}
	exit := *rec.Exit
	if exit.StartError != "" {
		return failed(startFailure(exit.StartError))
	}
	result, err := contract.ReadResult(r.p.result())
	if err == nil && exit.Gone && !exit.SameBoot {
		err = fs.ErrNotExist // after a power cut its files may be torn
	}
	if err != nil {
		e := r.crash(exit, rec.Reason)
		if !errors.Is(err, fs.ErrNotExist) && !exit.Gone {
			e = failure(contract.ClassInternal, "BAD_RESULT", "the stage's result document cannot be used: %v", err)
		}
		return failed(e)
	}
	failedWith := func(e *api.StageError) (api.AttemptReport, error) {
		left, err := r.leftovers(ctx, rec, result)
		if err != nil {
			return report, err
		}
		report.Artifacts = left
		return failed(e)
	}
	report.Metrics = result.Metrics
	if len(result.Output) > 0 {
		if report.Output, err = json.Marshal(result.Output); err != nil {
			return report, fmt.Errorf("nodeagent: output: %w", err)
		}
	}
	if result.Status == contract.StatusError {
		e := fromContract(result.Error)
		if stopped := interruption(rec.Reason); stopped != nil && result.Error.Class == contract.ClassInterrupted {
			e = stopped
		}
		return failedWith(e)
	}
	if !exit.Gone && (exit.Code != 0 || exit.Signal != "") {
		return failedWith(failure(contract.ClassCrashed, "BAD_EXIT", "the stage wrote a success, but ended with %s", ending(exit)))
	}
	if n := len(report.Output); n > maxOutput {
		report.Output = nil
		return failedWith(failure(contract.ClassUnsupported, "OUTPUT_TOO_LARGE", "the stage's output is %d bytes, at most %d are kept: put bytes into artifacts", n, maxOutput))
	}
	report.Artifacts, err = r.uploadArtifacts(ctx, result)
	report.State = api.AttemptSucceeded
	return report, err
}

// leftovers uploads what a failed attempt names in its result, a report on the
// data it refused above all. That it failed weighs more than what it left
// behind: an upload that does not work out is given up early, with a line in the
// log. One that was stopped from outside is not asked for more.
func (r *runner) leftovers(ctx context.Context, rec record, result contract.Result) ([]api.Artifact, error) {
	if rec.Reason != "" || len(result.Artifacts) == 0 {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(ctx, r.a.cfg.LeftoverPatience)
	defer cancel()
	left, err := r.uploadArtifacts(bounded, result)
	switch {
	case err == nil:
		return left, nil
	case ctx.Err() != nil || errors.Is(err, errStale):
		return nil, err
	}
	r.log.Warn("what the failed attempt left behind could not be kept", "error", err)
	return nil, nil
}

func (r *runner) uploadArtifacts(ctx context.Context, result contract.Result) ([]api.Artifact, error) {
	if len(result.Artifacts) == 0 {
		return nil, nil
	}
	root, err := os.OpenRoot(r.p.out())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names := make([]string, 0, len(result.Artifacts))
	for name := range result.Artifacts {
		names = append(names, name)
	}
	slices.Sort(names)
	var files []localFile
	for _, name := range names {
		a := result.Artifacts[name]
		found, err := listFiles(ctx, root, a.Path, name, a.Place)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, stageFault(contract.ClassInternal, "MISSING_ARTIFACT", "the stage named artifact %q at %q, which cannot be read in its output folder: %v", name, a.Path, err)
		}
		files = append(files, found...)
	}
	if len(files) > maxArtifacts {
		return nil, stageFault(contract.ClassUnsupported, "TOO_MANY_ARTIFACTS", "the stage made %d files, at most %d are kept: pack them", len(files), maxArtifacts)
	}
	done, err := r.upload(ctx, "", files)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errStale) {
		return nil, stageFault(contract.ClassTransient, "UPLOAD_FAILED", "the stage's artifacts could not be stored: %v", err)
	}
	return done, err
}

// interruption is the failure of an attempt that the agent stopped, nil if it
// did not.
func interruption(why reason) *api.StageError {
	switch why {
	case reasonTimeout:
		e := failure(contract.ClassInterrupted, "TIMEOUT", "the stage ran longer than its timeout allows")
		e.Hint = "raise the stage's timeout; another attempt continues from the last checkpoint"
		return e
	case reasonDisconnected:
		return failure(contract.ClassInterrupted, "DISCONNECTED", "the node had lost the control plane for so long that the stage may run elsewhere")
	case reasonShutdown:
		return failure(contract.ClassInterrupted, "INTERRUPTED", "the node's agent was shut down")
	case reasonCancelled:
		return failure(contract.ClassInterrupted, "CANCELLED", "the attempt was called off")
	}
	return nil
}

// crash tells of a process that ended without a result.
func (r *runner) crash(exit launcher.Exit, why reason) *api.StageError {
	if e := interruption(why); e != nil {
		return e
	}
	if exit.Gone {
		e := failure(contract.ClassInterrupted, "VANISHED", "the stage and its supervisor vanished: they were killed, or the machine was restarted")
		e.Hint = "another attempt continues from the last checkpoint"
		return e
	}
	lines := lastLines(r.p.events())
	detail := ""
	if lines != "" {
		detail = "; its last lines were:\n" + lines
	}
	switch {
	case exit.OOMKilled || containsAny(lines, "out of memory", "Cannot allocate memory", "MemoryError"):
		e := failure(contract.ClassResources, "OUT_OF_MEMORY", "the stage ran out of memory and ended with %s, having used %d MiB%s", ending(exit), exit.MaxRSS>>20, detail)
		e.Hint = "use a smaller batch or model, or require more memory in the stage's requirements"
		return e
	case containsAny(lines, "no space left on device", "No space left on device"):
		e := failure(contract.ClassResources, "DISK_FULL", "the node's disk was full and the stage ended with %s%s", ending(exit), detail)
		e.Hint = "free disk space on the node, or require more in the stage's requirements"
		return e
	}
	return failure(contract.ClassCrashed, "CRASHED", "the stage ended with %s and without a result%s", ending(exit), detail)
}

func startFailure(message string) *api.StageError {
	e := failure(contract.ClassResources, "START_FAILED", "the stage's command could not be started: %s", message)
	if containsAny(message, "not found", "no such file", "permission denied", "exec format error", "no command") {
		e = failure(contract.ClassConfig, "COMMAND_NOT_FOUND", "the stage's command could not be started: %s", message)
		e.Hint = "the program must be on the node's PATH; require a label that only such nodes carry"
	}
	return e
}

func ending(exit launcher.Exit) string {
	if exit.Signal != "" {
		return "signal " + exit.Signal
	}
	return fmt.Sprintf("exit code %d", exit.Code)
}

func containsAny(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}

// lastLines returns the last lines of a stage's output that are no events, as
// those are what a crash prints; at most 20 lines and 2 KiB.
func lastLines(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 64 << 10
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(0, info.Size()-window)
	data := make([]byte, info.Size()-from)
	n, _ := f.ReadAt(data, from)
	lines := bytes.Split(bytes.TrimRight(data[:n], "\n"), []byte("\n"))
	if from > 0 && len(lines) > 1 {
		lines = lines[1:] // it began before the window
	}
	lines = slices.DeleteFunc(lines, func(l []byte) bool {
		l = bytes.TrimSpace(l)
		return len(l) == 0 || l[0] == '{' && json.Valid(l)
	})
	lines = lines[max(0, len(lines)-20):]
	text := bytes.Join(lines, []byte("\n"))
	return strings.ToValidUTF8(string(text[max(0, len(text)-2<<10):]), "\uFFFD")
}
