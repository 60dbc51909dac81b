package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

const problemType = "application/problem+json"

// retryAfter is what overloaded and leaderless servers ask for, in seconds: an
// election takes one to two.
const retryAfter = "1"

// problemError is a problem document as an error that huma writes.
type problemError struct{ api.Problem }

func (p *problemError) Error() string                { return p.Problem.Error() }
func (p *problemError) GetStatus() int               { return p.Status }
func (p *problemError) ContentType(string) string    { return problemType }
func (p *problemError) MarshalJSON() ([]byte, error) { return json.Marshal(p.Problem) }
func (p *problemError) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.Problem) }
func (p *problemError) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	return h
}

func problem(status int, kind, format string, args ...any) *problemError {
	return &problemError{api.Problem{Type: kind, Status: status, Title: http.StatusText(status), Detail: fmt.Sprintf(format, args...)}}
}

func notFound(format string, args ...any) error {
	return problem(http.StatusNotFound, api.ProblemNotFound, format, args...)
}

// invalid says which fields of a request are wrong.
func invalid(faults ...api.FieldError) error {
	p := problem(http.StatusUnprocessableEntity, api.ProblemInvalid, "the request cannot be accepted as it is")
	p.Errors = faults
	return p
}

func fault(field, format string, args ...any) error {
	return invalid(api.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// asProblem says what an error of the rooms behind means to the caller.
func (s *Server) asProblem(err error) error {
	var done *problemError
	var domain *state.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.Is(err, state.ErrStaleFence):
		return staleFence(err.Error())
	case errors.As(err, &domain) && errors.Is(err, state.ErrNotFound):
		return notFound("%s", domain.Message)
	case errors.As(err, &domain) && errors.Is(err, state.ErrConflict):
		return problem(http.StatusConflict, api.ProblemConflict, "%s", domain.Message)
	case errors.As(err, &domain) && errors.Is(err, state.ErrInvalid):
		if domain.Field == "" {
			return problem(http.StatusUnprocessableEntity, api.ProblemInvalid, "%s", domain.Message)
		}
		return fault(domain.Field, "%s", domain.Message)
	case errors.Is(err, consensus.ErrUnknownOutcome):
		p := problem(http.StatusServiceUnavailable, api.ProblemNotLeader, "the server cannot tell whether this took effect")
		p.Outcome = "unknown"
		p.Hint = "repeat the request with the same id"
		return p
	case errors.Is(err, consensus.ErrNotLeader):
		return notLeader()
	case errors.Is(err, consensus.ErrProtocol):
		p := problem(http.StatusConflict, api.ProblemConflict, "%v", err)
		p.Hint = "tunemesh cluster peers shows which servers run an older version"
		return p
	case errors.Is(err, consensus.ErrDiskFull):
		p := problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the server's disk is nearly full")
		p.Hint = "free space on the disk of the control plane's data directory"
		return p
	case errors.Is(err, consensus.ErrOverloaded):
		return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the server is overloaded")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the server did not finish in time")
	}
	s.Log.Error("a request failed", "err", err)
	return problem(http.StatusInternalServerError, "", "the server failed; its log says why")
}

// fromDispatch says what an error of the leader's loop means. What it does not
// share with state and consensus is that it does not run here.
func (s *Server) fromDispatch(err error) error {
	var domain *state.Error
	switch {
	case err == nil, errors.As(err, &domain), errors.Is(err, consensus.ErrUnknownOutcome), errors.Is(err, consensus.ErrOverloaded),
		errors.Is(err, consensus.ErrDiskFull), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	s.Log.Debug("the leader's loop does not answer", "err", err)
	return notLeader()
}

func notLeader() *problemError {
	return problem(http.StatusServiceUnavailable, api.ProblemNotLeader, "no server leads at the moment: try again in a few seconds")
}

func staleFence(detail string) *problemError {
	p := problem(http.StatusGone, api.ProblemStaleFence, "%s", detail)
	p.Hint = "the attempt has moved on: stop its process and forget it"
	return p
}

// writeProblem answers outside of huma.
func writeProblem(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	h := w.Header()
	h.Set("Content-Type", problemType)
	if (p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests) && h.Get("Retry-After") == "" {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// writeError is writeProblem for any error.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var p *problemError
	if errors.As(s.asProblem(err), &p) {
		writeProblem(w, r, &p.Problem)
	}
}

var requiredProperty = regexp.MustCompile(`^expected required property (\S+) to be present$`)

// fromHuma turns huma's own errors into ours, with the path of the field.
func fromHuma(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problemError{api.Problem{Type: api.ProblemInvalid, Title: e.Title, Status: e.Status, Detail: e.Detail}}
	if e.Status/100 == 5 {
		p.Type = ""
	}
	for _, d := range e.Errors {
		if d == nil {
			continue
		}
		field, message := d.Location, d.Message
		for _, part := range []string{"body.", "query.", "path.", "header."} {
			field = strings.TrimPrefix(field, part)
		}
		if m := requiredProperty.FindStringSubmatch(message); m != nil {
			field = strings.TrimPrefix(strings.TrimPrefix(field, "body")+"."+m[1], ".")
			message = "is required"
		}
		p.Errors = append(p.Errors, api.FieldError{Field: field, Message: message})
	}
	return p, nil
}
