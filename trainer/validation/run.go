package validation

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/clean"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/records"
)

// The output lists so many classes, as long as their labels are not larger together; the
// artifact has all. The contract allows 64 KiB for the whole output.
const (
	shownClasses = 100
	shownBytes   = 24 << 10
)

// Run is the stage.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	s, err := records.New(in)
	if err != nil {
		return contract.Result{}, err
	}
	roles := s.Profile.Roles
	c := &counter{config: s.Config, whole: roles.Input.Column == "" && roles.Messages.Column == "", seen: map[clean.Sum]first{}}
	c.report.Task = s.Config.Task
	seconds, err := c.run(ctx, s, emit)
	if err != nil {
		return contract.Result{}, placed(err, s.Profile)
	}
	c.judge(s.Profile)
	report := &c.report
	failure := announce(report, s.Profile.File, emit)
	report.Passed = failure == nil
	if err := dataset.WriteJSON(filepath.Join(in.OutputDir, ReportFile), report); err != nil {
		return contract.Result{}, fmt.Errorf("write validation report: %w", err)
	}
	result := contract.Result{
		Artifacts: map[string]contract.Artifact{ReportFile: {Path: ReportFile}},
		Metrics: map[string]float64{
			"rows": float64(report.Rows), "usable_rows": float64(report.Usable),
			"rows_per_second": float64(report.Rows) / seconds, "mb_per_second": float64(s.Profile.Bytes) / 1e6 / seconds,
		},
	}
	if failure != nil {
		return result, failure
	}
	short := *report
	short.Classes = shown(short.Classes)
	result.Output = map[string]any{OutputKey: short}
	return result, nil
}

func shown(classes []ClassReport) []ClassReport {
	size := 0
	for i, k := range classes {
		size += len(k.Label)
		for _, v := range k.Variants {
			size += len(v)
		}
		if i == shownClasses || size > shownBytes {
			return classes[:i]
		}
	}
	return classes
}

// placed adds file and column to an error of too many classes.
func placed(err error, p dataset.Profile) error {
	var fault *contract.Error
	if errors.As(err, &fault) && fault.Code == CodeManyClasses {
		fault.File, fault.Column = p.File, p.Roles.Target.Column
	}
	return err
}

// announce writes the warnings and returns the first finding that stops the job.
func announce(r *Report, file string, emit *contract.Emitter) error {
	var failure *contract.Error
	for _, f := range r.Findings {
		if !f.Error {
			fields := map[string]any{"count": f.Count, "column": f.Column}
			if len(f.Rows) > 0 {
				fields["rows"] = f.Rows
			}
			if f.Hint != "" {
				fields["hint"] = f.Hint
			}
			emit.Warn(f.Code, f.Message, fields)
			continue
		}
		if failure != nil {
			failure.Message += "; " + f.Code + ": " + f.Message
			continue
		}
		failure = &contract.Error{Class: contract.ClassBadInput, Code: f.Code, Message: f.Message, File: file, Column: f.Column, Hint: f.Hint}
		if len(f.Rows) > 0 {
			failure.Row = f.Rows[0]
		}
		if len(f.Rows) > 1 {
			failure.Message += " (rows " + strings.Trim(fmt.Sprint(f.Rows), "[]") + ", ...)"
		}
	}
	if failure != nil {
		return failure
	}
	emit.Info(fmt.Sprintf("%d of %d rows are usable, %d findings", r.Usable, r.Rows, len(r.Findings)), nil)
	return nil
}
