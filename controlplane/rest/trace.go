package rest

import (
	"errors"
	"net/http"

	"github.com/tunemesh/tunemesh/tracing"
)

// trace gives a request a span: one that changes something, and one whose
// caller has a span itself. Others, polls above all, would only be noise.
func (s *Server) trace(next http.Handler) http.Handler {
	if !tracing.Enabled() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := tracing.FromRequest(r)
		pattern := s.route(r)
		if pattern == "" || tracing.Parent(ctx) == "" && pattern != "POST /v1/jobs" {
			next.ServeHTTP(w, r)
			return
		}
		ctx, span := tracing.Begin(ctx, pattern)
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			var failed error
			if seen.status >= http.StatusInternalServerError {
				failed = errors.New(http.StatusText(seen.status))
			}
			span.End(failed)
		}()
		r = r.WithContext(ctx)
		// A hop to the leader goes under this span, too.
		r.Header.Set("Traceparent", tracing.Parent(ctx))
		next.ServeHTTP(seen, r)
	})
}
