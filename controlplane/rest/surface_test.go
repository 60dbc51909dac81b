package rest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
)

// routes lists all patterns with a rule.
func (m *mesh) routes() []string {
	var out []string
	for p := range m.rest.Rules() {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

var parameter = regexp.MustCompile(`\{[^}]+\}`)

// path fills in a pattern's parameters.
func path(pattern, value string) (method, p string) {
	method, p, _ = strings.Cut(pattern, " ")
	return method, parameter.ReplaceAllString(p, value)
}

func TestEveryRouteHasARuleAndKeepsIt(t *testing.T) {
	m := newMesh(t)
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Responses   map[string]json.RawMessage
		} `json:"paths"`
	}
	m.get(t, "/openapi.json", &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("the description is of OpenAPI %q", doc.OpenAPI)
	}
	described := 0
	for p, methods := range doc.Paths {
		for method, o := range methods {
			pattern := strings.ToUpper(method) + " " + p
			if _, ok := m.rest.Rules()[pattern]; !ok {
				t.Errorf("%s has no rule", pattern)
			}
			if !strings.Contains(string(o.Responses["default"]), "application/problem+json") {
				t.Errorf("%s does not describe its problems", pattern)
			}
			described++
		}
	}
	if described < 28 {
		t.Errorf("the description has %d operations", described)
	}
	for _, pattern := range m.routes() {
		need := m.rest.Rules()[pattern]
		method, p := path(pattern, "1")
		if need == api.RoleNode {
			method, p = path(pattern, nodeName) // for whom the credential speaks
			p = strings.Replace(p, "/attempts/"+nodeName, "/attempts/1", 1)
		}
		for role, token := range m.tokens {
			status := m.status(t, method, p, token, "")
			refused := status == http.StatusForbidden || status == http.StatusUnauthorized
			if allowed := need == auth.Public || auth.Allows(role, need); allowed == refused {
				t.Errorf("%s as %s (needs %s): %d", pattern, role, need, status)
			}
		}
		if status := m.status(t, method, p, "", ""); (status == http.StatusUnauthorized) == (need == auth.Public) {
			t.Errorf("%s without a token: %d", pattern, status)
		}
	}
}

// status sends a request and returns the answer's status. Streams are not read.
func (m *mesh) status(t *testing.T, method, p, token, body string) int {
	t.Helper()
	resp := m.send(t, method, p, token, body)
	resp.Body.Close()
	return resp.StatusCode
}

func (m *mesh) send(t *testing.T, method, p, token, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.url+p, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (m *mesh) tokenFor(pattern string) string {
	if need := m.rest.Rules()[pattern]; need == api.RoleNode {
		return m.tokens[api.RoleNode]
	}
	return m.tokens[api.RoleAdmin]
}

// TestGarbageNeverMakesAServerError sends every route what no client should.
func TestGarbageNeverMakesAServerError(t *testing.T) {
	m := newMesh(t)
	r := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(r.UintN(256))
	}
	bodies := map[string]string{
		"nothing": "", "no JSON": "{", "noise": string(noise), "null": "null", "number": "12", "list": "[]", "list of lists": "[[[]]]", "text": `"x"`, "true": "true",
		"empty object": "{}", "deep": strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"wrong types":  `{"id":1,"name":{},"dataset":[],"config":"x","pipeline":3,"priority":"high","labels":[1],"state":4,"first_seq":"one","events":{"a":1},"files":7,"fences":"x","capability":[],"protocol":"x","drain":"yes","reason":5}`,
		"nulls":        `{"id":null,"name":null,"dataset":null,"config":null,"pipeline":null,"files":null,"events":null,"state":null,"drain":null,"capability":null,"artifacts":null}`,
		"list of null": `{"events":[null],"files":[null],"artifacts":[null],"fences":[null],"pipeline":{"nodes":[null],"edges":[null]},"first_seq":1,"state":"succeeded"}`,
		"huge numbers": `{"priority":1e400,"first_seq":-1,"protocol":99999999999999999999,"fences":[-1],"files":[{"size":1e30}]}`,
		"bad UTF-8":    "{\"name\":\"\xff\xfe\",\"dataset\":\"\xc3\"}",
		"too large":    `{"name":"` + strings.Repeat("x", 9<<20) + `"}`,
		"twice":        `{} {}`,
	}
	values := []string{"1", "0", "-1", "18446744073709551615", "99999999999999999999", "nothing", "%00", "%2e%2e%2f", "..%2F..", "%F0%9F%98%80", strings.Repeat("a", 3000)}
	queries := []string{"", "?index=x", "?limit=-1", "?limit=1e9", "?cursor=nothing", "?state=odd", "?wait=forever", "?wait=-1s", "?stale", "?stale=true&index=99999999999999999999", "?%zz"}
	problems := 0
	for _, pattern := range m.routes() {
		token := m.tokenFor(pattern)
		check := func(what, method, p, body string) {
			t.Helper()
			resp := m.send(t, method, p, token, body)
			defer resp.Body.Close()
			if resp.StatusCode >= 500 {
				data, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
				t.Errorf("%s %.80s with %s: %s %s", method, p, what, resp.Status, data)
			}
			if resp.StatusCode >= 400 {
				problems++
				var problem api.Problem
				err := json.NewDecoder(resp.Body).Decode(&problem)
				if err != nil || problem.Title == "" || problem.Status != resp.StatusCode || resp.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s %.80s with %s: %s is no problem document: %+v %v", method, p, what, resp.Status, problem, err)
				}
			}
			if what == "too large" && method != "GET" && resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s: a body of 9 MiB: %s", method, p, resp.Status)
			}
		}
		method, p := path(pattern, "1")
		if method != "GET" {
			for what, body := range bodies {
				if what == "too large" && (pattern == "POST /v1/datasets" || pattern == "POST /v1/snapshot/restore") {
					continue // they take large bodies, and refuse this one for its name, or its format
				}
				check(what, method, p, body)
			}
		}
		if strings.Contains(pattern, "{") {
			for _, v := range values {
				method, p := path(pattern, v)
				check("value", method, p, "{}")
			}
		}
		if method == "GET" {
			for _, q := range queries {
				check("query", method, p+q, "")
			}
		}
	}
	if problems < 300 {
		t.Errorf("only %d of the requests were refused: the test is too easy", problems)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	m := newMesh(t)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 404}, {"GET", "/v1", 404}, {"GET", "/v1/nothing", 404}, {"DELETE", "/v1/jobs", 405}, {"PATCH", "/v1/jobs/1", 405}, {"POST", "/healthz", 405}, {"GET", "/v1/jobs/", 404},
	} {
		resp := m.send(t, c.method, c.path, m.tokens[api.RoleAdmin], "")
		var p api.Problem
		err := json.NewDecoder(resp.Body).Decode(&p)
		resp.Body.Close()
		if resp.StatusCode != c.want || err != nil || p.Status != c.want {
			t.Errorf("%s %s: %s %+v %v, want %d", c.method, c.path, resp.Status, p, err, c.want)
		}
		if c.want == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", c.method, c.path)
		}
	}
}

func TestAMisspeltFieldIsNamed(t *testing.T) {
	m := newMesh(t)
	for body, want := range map[string]string{
		`{"dataset":"x","priorty":1}`:     "priorty",
		`{}`:                              "dataset",
		`{"dataset":"x","priority":1000}`: "priority",
		`{"dataset":"x","pipeline":{"nodes":[{"nam":"x"}]}}`:    "pipeline.nodes[0].name",
		`{"dataset":"x","pipeline":{"nodes":[{"name":"X Y"}]}}`: "pipeline.nodes[0].name",
		`{"dataset":"x","pipeline":{"nodes":[],"edges":[]}}`:    "pipeline.nodes",
		`{"dataset":7}`: "dataset",
	} {
		var p api.Problem
		resp := m.do(t, "POST", "/v1/jobs", []byte(body), &p)
		if resp.StatusCode != 422 || !slices.ContainsFunc(p.Errors, func(f api.FieldError) bool { return f.Field == want }) {
			t.Errorf("%s: %s names %v, want %s", body, resp.Status, p.Errors, want)
		}
	}
}

func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	m := newMesh(t)
	elsewhere := regexp.MustCompile(`(src|href)="(https?:)?//|@import|url\(`)
	for _, p := range []string{"/docs", "/docs/docs.js", "/docs/docs.css"} {
		resp := m.send(t, "GET", p, "", "")
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || len(body) < 200 {
			t.Errorf("%s: %s, %d bytes", p, resp.Status, len(body))
		}
		if found := elsewhere.Find(body); found != nil {
			t.Errorf("%s loads %s", p, found)
		}
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s has the policy %q", p, policy)
		}
	}
}

func TestServerRoutes(t *testing.T) {
	m := newMesh(t)
	v, err := m.client("").Version(t.Context())
	if err != nil || v.Version != "test" || v.Protocol != api.ProtocolVersion {
		t.Errorf("version %+v, %v", v, err)
	}
	models, err := m.client(api.RoleViewer).Models(t.Context())
	if err != nil || len(models) != 1 || models[0].Name != modelName {
		t.Errorf("models %+v, %v", models, err)
	}
	join(t, m.client(api.RoleNode))
	node, err := m.client(api.RoleAdmin).DrainNode(t.Context(), nodeName, true)
	if err != nil || !node.Drain || node.Status != api.NodeAlive {
		t.Errorf("node %+v, %v", node, err)
	}
	resp := m.get(t, "/v1/nodes", nil)
	if index := resp.Header.Get("Tunemesh-Index"); index == "" || index == "0" {
		t.Errorf("the index in the header is %q", index)
	}
	var n api.Node
	m.get(t, fmt.Sprintf("/v1/nodes/%s?stale=true&index=%d", nodeName, node.Index), &n)
	if !n.Drain {
		t.Errorf("node %+v", n)
	}
}

func TestABodyOfAnotherKindIsRefusedInWords(t *testing.T) {
	m := newMesh(t)
	req, err := http.NewRequestWithContext(t.Context(), "POST", m.url+"/v1/jobs", strings.NewReader("dataset=x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.tokens[api.RoleUser])
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p api.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("%s: %+v, %v", resp.Status, p, err)
	}
}

// FuzzSubmit: whatever is submitted, the answer is a job or a problem document
// that is the caller's fault.
func FuzzSubmit(f *testing.F) {
	f.Add(`{"dataset":"ds_1","config":{"training":{"rank":8}}}`)
	f.Add(`{"dataset":"x","pipeline":{"nodes":[{"name":"a","command":["x"],"requires":{"gpus":1},"timeout":"1h"}],"edges":[{"from":"a","to":"a"}]}}`)
	f.Add(`{"id":"01J","labels":{"a":"b"},"priority":-5,"config":null,"pipeline":null}`)
	f.Add(`{"config":{"training":{"learning_rate":1e400}}}`)
	m := newMesh(f)
	handler := m.rest.Handler()
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+m.tokens[api.RoleUser])
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code/100 == 2 {
			return
		}
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code >= 500 || p.Status != w.Code || p.Title == "" {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
