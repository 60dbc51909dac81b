package api

import (
	"fmt"
	"strings"
)

// FieldError is one fault of a request, with the field's path.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (e FieldError) Error() string { return e.Field + ": " + e.Message }

// Problem is an RFC 9457 problem document, the body of every HTTP error.
type Problem struct {
	Type     string       `json:"type,omitempty" doc:"a URI that names the kind of problem" example:"urn:tunemesh:problem:stale-fence"`
	Title    string       `json:"title"`
	Status   int          `json:"status"`
	Detail   string       `json:"detail,omitempty"`
	Instance string       `json:"instance,omitempty"`
	Errors   []FieldError `json:"errors,omitempty"`
	// Outcome is "unknown" when a write may or may not have taken effect: repeat
	// it with the same id.
	Outcome string `json:"outcome,omitempty"`
	Hint    string `json:"hint,omitempty" doc:"what to do about it"`
}

// Kinds of problems that programs react to.
const (
	ProblemStaleFence   = "urn:tunemesh:problem:stale-fence"
	ProblemNotLeader    = "urn:tunemesh:problem:not-leader"
	ProblemInvalid      = "urn:tunemesh:problem:invalid"
	ProblemNotFound     = "urn:tunemesh:problem:not-found"
	ProblemConflict     = "urn:tunemesh:problem:conflict"
	ProblemUnauthorized = "urn:tunemesh:problem:unauthorized"
	ProblemForbidden    = "urn:tunemesh:problem:forbidden"
	ProblemOverloaded   = "urn:tunemesh:problem:overloaded"
	// ProblemChallenge: what a node signed is not what this server asked for; ask
	// for another.
	ProblemChallenge = "urn:tunemesh:problem:challenge"
	// ProblemNotStored: the object store does not hold what was reported, or not
	// all parts of it: send it again.
	ProblemNotStored = "urn:tunemesh:problem:not-stored"
)

// Error implements error with everything a person needs.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", p.Title)
	if p.Detail != "" {
		fmt.Fprintf(&b, ": %s", p.Detail)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", e.Field, e.Message)
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "\n  hint: %s", p.Hint)
	}
	return b.String()
}
