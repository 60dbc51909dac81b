package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// uploadSilence is how long an upload may send nothing.
const uploadSilence = time.Minute

func uploadOperation() huma.Operation {
	return op("POST", "/v1/datasets", tagDatasets, "upload-dataset", "Upload a dataset", func(o *huma.Operation) {
		o.Description = "The body is the file itself, of any size, streamed. The same bytes are the same dataset: a repeat answers 200 instead of 201."
		o.Parameters = []*huma.Param{{Name: "name", In: "query", Required: true, Description: "file name; its ending says the format: .csv, .tsv or .jsonl", Schema: &huma.Schema{Type: "string", MaxLength: ptr(maxFileName)}}}
		o.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	})
}

func ptr[T any](v T) *T { return &v }

// maxFileName is in bytes.
const maxFileName = 255

func checkFileName(name string) error {
	switch {
	case name == "":
		return fault("name", "is required: say how the file is called, with its ending")
	case len(name) > maxFileName:
		return fault("name", "is %d bytes long, at most %d are allowed", len(name), maxFileName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.ContainsAny(name, `/\`):
		return fault("name", "must be a plain file name without slashes and control characters")
	}
	return nil
}

// uploadDataset streams a file into the object store and records it.
func (s *Server) uploadDataset(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("name")
	if err := checkFileName(name); err != nil {
		return err
	}
	if kind := r.Header.Get("Content-Type"); strings.HasPrefix(kind, "multipart/") {
		p := problem(http.StatusUnsupportedMediaType, api.ProblemInvalid, "the body must be the file itself, not %s", kind)
		p.Hint = "curl --data-binary @file 'SERVER/v1/datasets?name=file.csv'"
		return p
	}
	if r.ContentLength > s.MaxDatasetBytes {
		return s.tooLarge()
	}
	if r.ContentLength == 0 {
		return fault("body", "the file is empty")
	}
	rc := http.NewResponseController(w)
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	body := &patientReader{r: http.MaxBytesReader(w, r.Body, s.MaxDatasetBytes), rc: rc}
	d, err := s.Objects.PutDataset(r.Context(), name, body, r.ContentLength)
	var size *artifacts.SizeError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return s.tooLarge()
	case errors.Is(err, artifacts.ErrEmpty):
		return fault("body", "the file is empty")
	case errors.As(err, &size):
		return problem(http.StatusBadRequest, api.ProblemInvalid, "%s", size.Error())
	case err != nil && body.err != nil && body.err != io.EOF:
		// The caller's connection broke; most likely nobody reads this.
		return problem(http.StatusBadRequest, api.ProblemInvalid, "the upload broke off: %v", body.err)
	case err != nil:
		s.Log.Error("a dataset could not be stored", "name", name, "err", err)
		return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the object store did not take the file: try again")
	}
	if err := failpoint.At(failpoint.DatasetUnrecorded); err != nil {
		return err
	}
	d.CreatedBy = auth.Caller(r.Context()).Name
	d.CreatedAt = s.Clock().UTC()
	result, err := s.Raft.Apply(r.Context(), state.CreateDataset{Dataset: d})
	if err != nil {
		return err
	}
	if d, err = s.Store.Dataset(d.ID); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if result.Created {
		w.WriteHeader(http.StatusCreated)
	}
	return json.NewEncoder(w).Encode(d)
}

func (s *Server) tooLarge() error {
	return problem(http.StatusRequestEntityTooLarge, api.ProblemInvalid, "the file is larger than %d bytes", s.MaxDatasetBytes)
}

// patientReader lets a body take as long as it takes, but not be silent.
type patientReader struct {
	r   io.Reader
	rc  *http.ResponseController
	err error
}

func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(uploadSilence))
	n, err := p.r.Read(b)
	if err != nil {
		p.err = err
	}
	return n, err
}

func (s *Server) listDatasets(ctx context.Context, in *readIn) (*listOut[api.Dataset], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return listed(s.Store.Datasets()), nil
}

func (s *Server) getDataset(ctx context.Context, in *readID) (*one[api.Dataset], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	d, err := s.Store.Dataset(in.ID)
	return &one[api.Dataset]{d}, err
}
