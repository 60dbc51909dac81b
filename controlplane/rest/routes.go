package rest

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
)

// Tags group the routes in the description.
const (
	tagDatasets = "Datasets"
	tagJobs     = "Jobs"
	tagNodes    = "Nodes"
	tagModels   = "Models"
	tagAgents   = "Agents"
	tagServer   = "Server"
)

// routes registers every route that the description lists, each with the role
// that it needs.
func (s *Server) routes() {
	raw(s, api.RoleUser, uploadOperation(), s.uploadDataset)
	add(s, api.RoleViewer, op("GET", "/v1/datasets", tagDatasets, "list-datasets", "List datasets, newest first"), s.listDatasets)
	add(s, api.RoleViewer, op("GET", "/v1/datasets/{id}", tagDatasets, "get-dataset", "Get a dataset"), s.getDataset)
	add(s, api.RoleUser, op("GET", "/v1/datasets/{id}/file", tagDatasets, "get-dataset-file", "Get a link to a dataset's file"), s.getDatasetFile)

	add(s, api.RoleUser, op("POST", "/v1/jobs", tagJobs, "submit-job", "Submit a job", func(o *huma.Operation) {
		o.Description = "The same id with the same spec is the same job: a repeat answers 200 instead of 201."
		o.DefaultStatus = http.StatusCreated
	}), s.submitJob)
	add(s, api.RoleViewer, op("GET", "/v1/jobs", tagJobs, "list-jobs", "List jobs, newest first"), s.listJobs)
	add(s, api.RoleViewer, op("GET", "/v1/jobs/{id}", tagJobs, "get-job", "Get a job with its stages"), s.getJob)
	add(s, api.RoleUser, op("POST", "/v1/jobs/{id}/cancel", tagJobs, "cancel-job", "Cancel a job"), s.cancelJob)
	add(s, api.RoleUser, op("POST", "/v1/jobs/{id}/resume", tagJobs, "resume-job", "Let a failed or cancelled job go on from its last succeeded stage"), s.resumeJob)
	add(s, api.RoleViewer, op("GET", "/v1/jobs/{id}/stages", tagJobs, "list-stages", "List a job's stages in topological order"), s.listStages)
	add(s, api.RoleViewer, op("GET", "/v1/jobs/{id}/attempts", tagJobs, "list-attempts", "List a job's attempts, oldest first"), s.listAttempts)
	add(s, api.RoleViewer, op("GET", "/v1/jobs/{id}/artifacts", tagJobs, "list-artifacts", "List what a job's stages made, with links to it"), s.listArtifacts)
	add(s, api.RoleViewer, op("GET", "/v1/jobs/{id}/dead-letters", tagJobs, "list-job-dead-letters", "List a job's dead letters"), s.listJobDeadLetters)
	raw(s, api.RoleViewer, eventsOperation(), s.streamEvents)
	add(s, api.RoleViewer, op("GET", "/v1/dead-letters", tagJobs, "list-dead-letters", "List all dead letters"), s.listDeadLetters)

	add(s, api.RoleViewer, op("GET", "/v1/nodes", tagNodes, "list-nodes", "List nodes"), s.listNodes)
	add(s, api.RoleViewer, op("GET", "/v1/nodes/{id}", tagNodes, "get-node", "Get a node"), s.getNode)
	add(s, api.RoleAdmin, op("POST", "/v1/nodes/{id}/drain", tagNodes, "drain-node", "Say whether new attempts may be placed on a node"), s.drainNode)

	add(s, api.RoleViewer, op("GET", "/v1/models", tagModels, "list-models", "List base models"), s.listModels)
	add(s, api.RoleViewer, op("GET", "/v1/models/{name}", tagModels, "get-model", "Get a base model"), s.getModel)
	add(s, api.RoleUser, op("GET", "/v1/models/{name}/files", tagModels, "list-model-files", "List a base model's files, with links to them"), s.listModelFiles)
	add(s, api.RoleUser, op("GET", "/v1/models/{name}/objects", tagModels, "list-model-objects", "List the files that lie in the bucket under base/NAME, for an import"), s.listModelObjects)
	add(s, api.RoleUser, op("POST", "/v1/models/{name}/uploads", tagModels, "request-model-uploads", "Get links to upload a base model's files to"), s.requestModelUploads)
	add(s, api.RoleUser, op("PUT", "/v1/models/{name}", tagModels, "create-model", "Make an uploaded base model known", func(o *huma.Operation) {
		o.Description = "The files are read and compared with their hashes first, which takes a few seconds for each GB. The same name with the same files is the same model: a repeat answers 200 instead of 201. To replace a model needs the role admin."
		o.DefaultStatus = http.StatusCreated
	}), s.createModel)

	add(s, api.RoleNode, op("PUT", "/v1/nodes/{id}", tagAgents, "register-node", "Register a node", lenient), s.registerNode)
	add(s, api.RoleNode, op("POST", "/v1/nodes/{id}/heartbeat", tagAgents, "heartbeat", "Renew a node's lease", lenient), s.heartbeat)
	add(s, api.RoleNode, op("GET", "/v1/nodes/{id}/assignments", tagAgents, "get-assignments", "Wait for a node's desired set", func(o *huma.Operation) {
		o.Description = "Answers as soon as the set's index differs from the one given, or after the wait. What is not in the set must not run."
	}), s.assignments)
	add(s, api.RoleNode, op("POST", "/v1/attempts/{fence}/events", tagAgents, "append-events", "Ship an attempt's events", lenient), s.appendEvents)
	add(s, api.RoleNode, op("POST", "/v1/attempts/{fence}/uploads", tagAgents, "request-uploads", "Get links to upload an attempt's files to", lenient), s.requestUploads)
	add(s, api.RoleNode, op("POST", "/v1/attempts/{fence}/checkpoints", tagAgents, "report-checkpoint", "Make an uploaded checkpoint known", lenient), s.reportCheckpoint)
	add(s, api.RoleNode, op("POST", "/v1/attempts/{fence}/report", tagAgents, "report-attempt", "Report an attempt's start or end", lenient), s.reportAttempt)

	add(s, api.RoleMetrics, op("GET", "/v1/sd/prometheus", tagServer, "discover-targets", "List what Prometheus can scrape, in the form of its HTTP service discovery"), s.discoverTargets)
	s.enrolRoutes()
	s.tokenRoutes()
	s.clusterRoutes()
	s.probeRoutes()
	s.multipartRoutes()

	add(s, auth.Public, op("GET", "/v1/version", tagServer, "get-version", "Get the server's version"), s.version)
	add(s, auth.Public, op("GET", "/healthz", tagServer, "healthz", "The process lives"), s.healthz)
	add(s, auth.Public, op("GET", "/readyz", tagServer, "readyz", "The server can take work: a leader is known and the object store answers"), s.readyz)
}

func op(method, path, tag, id, summary string, changes ...func(*huma.Operation)) huma.Operation {
	o := huma.Operation{Method: method, Path: path, Tags: []string{tag}, OperationID: id, Summary: summary}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// lenient accepts what a newer agent adds: its bodies are decoded, and checked
// by hand, without the schema.
func lenient(o *huma.Operation) { o.SkipValidateBody = true }

// add registers a typed route.
func add[I, O any](s *Server, role api.Role, o huma.Operation, handle func(context.Context, *I) (*O, error)) {
	s.rule(role, &o)
	// The body was read and bounded before.
	o.MaxBodyBytes, o.BodyReadTimeout = -1, -1
	huma.Register(s.api, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.asProblem(err)
		}
		return out, nil
	})
}

// raw registers a route that reads or writes its body by itself.
func raw(s *Server, role api.Role, o huma.Operation, handle func(http.ResponseWriter, *http.Request) error) {
	s.rule(role, &o)
	s.api.OpenAPI().AddOperation(&o)
	s.mux.HandleFunc(o.Method+" "+o.Path, func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

func (s *Server) rule(role api.Role, o *huma.Operation) {
	s.rules[o.Method+" "+o.Path] = role
	if role != auth.Public {
		o.Security = []map[string][]string{{"token": {}}}
		o.Description += "\n\nNeeds the role " + string(role) + "."
	}
}

func apiConfig(version string) huma.Config {
	c := huma.DefaultConfig("Tunemesh", version)
	c.Info.Description = "Fine-tunes language models on your own machines. Errors are problem documents (RFC 9457)."
	c.DocsPath, c.SchemasPath, c.OpenAPIPath = "", "", ""
	c.CreateHooks = nil // no $schema links in answers
	c.AllowAdditionalPropertiesByDefault = true
	c.Transformers = []huma.Transformer{fromHuma}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	return c
}

// describeProblems puts our problem document in the place of huma's own, and
// makes what users submit strict, so that a misspelt field is named.
func (s *Server) describeProblems() {
	doc := s.api.OpenAPI()
	registry := doc.Components.Schemas
	registry.Schema(reflect.TypeFor[api.Event](), true, "Event")
	schema := registry.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	for _, path := range doc.Paths {
		for _, o := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete} {
			if o == nil {
				continue
			}
			if o.Responses == nil {
				o.Responses = map[string]*huma.Response{}
			}
			o.Responses["default"] = &huma.Response{Description: "Problem", Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
		}
	}
	delete(registry.Map(), "ErrorModel")
	delete(registry.Map(), "ErrorDetail")
	for _, name := range []string{"JobSpec", "Pipeline", "StageSpec", "Edge", "Requirements"} {
		if strict := registry.Map()[name]; strict != nil {
			strict.AdditionalProperties = false
			strict.PrecomputeMessages()
		}
	}
}

// readParams are those of every read.
type readParams struct {
	Stale string `query:"stale" doc:"answer from this server's own state, which may be behind; without it the leader answers" example:"true"`
	Index uint64 `query:"index" doc:"first wait until the state holds this index: that of your own write"`
}

type staleKey struct{}

// indexWait bounds the wait for an index.
const indexWait = 10 * time.Second

// fresh returns once a read sees what it must.
func (s *Server) fresh(ctx context.Context, p readParams) error {
	if p.Index > 0 {
		ctx, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		if err := s.Raft.WaitIndex(ctx, p.Index); err != nil {
			return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "this server has not reached index %d yet", p.Index)
		}
	}
	if ctx.Value(staleKey{}) != nil {
		return nil
	}
	return s.Raft.ConsistentRead(ctx)
}

// list is a page of things.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"pass it as cursor for the next page; empty on the last"`
}

type listOut[T any] struct{ Body list[T] }

func listed[T any](items []T) *listOut[T] {
	if items == nil {
		items = []T{}
	}
	return &listOut[T]{Body: list[T]{Items: items}}
}

type one[T any] struct{ Body T }

type readIn struct{ readParams }

type readID struct {
	readParams
	ID string `path:"id" maxLength:"256"`
}
