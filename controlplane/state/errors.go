package state

import (
	"errors"
	"fmt"
)

// Sentinels of the domain's errors; compare with errors.Is. They are answers,
// not faults: every server gives the same one for the same entry.
var (
	ErrNotFound   = errors.New("not found")
	ErrConflict   = errors.New("conflict")
	ErrStaleFence = errors.New("stale fence")
	ErrInvalid    = errors.New("invalid")
)

// ErrUnknownCommand is the fatal answer to an entry whose kind or version this
// program does not know: it is older than the mesh and must stop, because to
// skip the entry would make its state another one.
var ErrUnknownCommand = errors.New("unknown command")

// Error is a domain error with words for people.
type Error struct {
	// Sentinel is one of ErrNotFound, ErrConflict, ErrStaleFence, ErrInvalid.
	Sentinel error
	// Field names the request's field for ErrInvalid, if there is one.
	Field   string
	Message string
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Message
	}
	return e.Message
}

// Unwrap lets errors.Is find the sentinel.
func (e *Error) Unwrap() error { return e.Sentinel }

func notFound(format string, args ...any) error {
	return &Error{Sentinel: ErrNotFound, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{Sentinel: ErrConflict, Message: fmt.Sprintf(format, args...)}
}

func staleFence(format string, args ...any) error {
	return &Error{Sentinel: ErrStaleFence, Message: fmt.Sprintf(format, args...)}
}

func invalid(field, format string, args ...any) error {
	return &Error{Sentinel: ErrInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// isDomain says whether an error is an answer rather than a fault.
func isDomain(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
