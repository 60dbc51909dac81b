package rest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Bounds of request bodies in bytes. Uploads have their own.
const (
	maxBody       = 1 << 20
	maxEventsBody = 8 << 20
	maxFilesBody  = 8 << 20 // 10,000 files of an attempt
)

// drainBytes is how much of a refused body is read and thrown away.
const drainBytes = 16 << 20

// bodyTime is how long a body that is not an upload may take.
const bodyTime = 30 * time.Second

// streamed are the routes whose body is read as it comes.
func streamed(pattern string) bool {
	return pattern == "POST /v1/datasets" || pattern == "POST /v1/snapshot/restore"
}

func bodyLimit(pattern string) int64 {
	switch pattern {
	case "POST /v1/attempts/{fence}/events":
		return maxEventsBody
	case "POST /v1/attempts/{fence}/uploads", "POST /v1/attempts/{fence}/checkpoints", "POST /v1/attempts/{fence}/report":
		return maxFilesBody
	}
	return maxBody
}

// readBody reads bounded bodies before anything is done with them, so that a
// body that is too large, too slow or broken gets its own answer.
func (s *Server) readBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pattern := s.route(r)
		if r.Body == nil || r.Body == http.NoBody || pattern == "" || streamed(pattern) {
			next.ServeHTTP(w, r)
			return
		}
		limit := bodyLimit(pattern)
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if err == nil && r.Header.Get("Content-Encoding") != "" {
			data, err = s.unpacker.unpack(data, r.Header.Get("Content-Encoding"), limit)
			r.Header.Del("Content-Encoding")
			r.ContentLength = int64(len(data))
		}
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			// A caller that still writes would see a reset connection instead of
			// the answer, so take a while longer what it sends.
			_, _ = io.CopyN(io.Discard, r.Body, drainBytes)
		}
		_ = rc.SetReadDeadline(time.Time{})
		if err != nil {
			writeProblem(w, r, bodyProblem(err, limit))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(data))
		next.ServeHTTP(w, r)
	})
}

func bodyProblem(err error, limit int64) *api.Problem {
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	var encoding *encodingError
	switch {
	case errors.As(err, &encoding):
		return &problem(http.StatusUnsupportedMediaType, api.ProblemInvalid, "the request's body cannot be read: %v", err).Problem
	case errors.As(err, &tooLarge):
		return &problem(http.StatusRequestEntityTooLarge, api.ProblemInvalid, "the request's body is larger than %d bytes", limit).Problem
	case errors.As(err, &timeout) && timeout.Timeout():
		return &problem(http.StatusRequestTimeout, "", "the request's body did not come in time").Problem
	}
	return &problem(http.StatusBadRequest, api.ProblemInvalid, "the request's body cannot be read: %v", err).Problem
}

// notFound gives requests that no route serves a problem document.
func (s *Server) notFound(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		var found statusOnly
		mux.ServeHTTP(&found, r)
		if found.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", found.Header().Get("Allow"))
			writeProblem(w, r, &problem(found.status, "", "%s is not possible here; possible: %s", r.Method, found.Header().Get("Allow")).Problem)
			return
		}
		writeProblem(w, r, &problem(http.StatusNotFound, api.ProblemNotFound, "there is no %s; /docs lists what there is", r.URL.Path).Problem)
	})
}

// statusOnly is a response of which only the head matters.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header {
	if s.header == nil {
		s.header = http.Header{}
	}
	return s.header
}
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }

// recoverPanics answers a request whose handler failed, and keeps the server.
func (s *Server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				s.Log.Error("a request's handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				writeProblem(w, r, &problem(http.StatusInternalServerError, "", "the server failed; its log says why").Problem)
			}
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
