package nodeagent

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// failure makes a stage error of the agent's own.
func failure(class contract.Class, code, format string, args ...any) *api.StageError {
	return fromContract(&contract.Error{Class: class, Code: code, Message: fmt.Sprintf(format, args...)})
}

// stageFault is failure as an error.
func stageFault(class contract.Class, code, format string, args ...any) error {
	return &contract.Error{Class: class, Code: code, Message: fmt.Sprintf(format, args...)}
}

// asStageError finds the stage error in err. A full disk is one of resources,
// whatever was being done.
func asStageError(err error) *api.StageError {
	if errors.Is(err, syscall.ENOSPC) {
		return fromContract(&contract.Error{Class: contract.ClassResources, Code: "DISK_FULL", Message: err.Error(), Hint: "free disk space on the node, or run the stage elsewhere"})
	}
	return fromContract(contract.AsError(err))
}

func fromContract(e *contract.Error) *api.StageError {
	return &api.StageError{
		Class: string(e.Class), Code: e.Code, Message: cut(e.Message, 4<<10), File: e.File, Row: e.Row,
		Column: e.Column, Field: e.Field, Hint: e.Hint, Retryable: e.Class.Retryable(),
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + " [cut]"
	}
	return s
}
