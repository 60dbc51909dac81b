package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// useLink sends a request to a presigned link.
func useLink(t *testing.T, method, link, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, link, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestAProbeIsWrittenReadAndDeletedByItsLinks(t *testing.T) {
	m := newMesh(t)
	for _, role := range []api.Role{api.RoleNode, api.RoleUser} {
		p, err := m.client(role).StoreProbe(t.Context())
		if err != nil {
			t.Fatalf("as %s: %v", role, err)
		}
		if status, _ := useLink(t, http.MethodPut, p.PutURL, "hello"); status != 200 {
			t.Fatalf("PUT: %d", status)
		}
		if status, got := useLink(t, http.MethodGet, p.GetURL, ""); status != 200 || got != "hello" {
			t.Fatalf("GET: %d %q", status, got)
		}
		if status, _ := useLink(t, http.MethodPut, p.GetURL, "no"); status != http.StatusForbidden {
			t.Errorf("a link to read writes: %d", status)
		}
		if status, _ := useLink(t, http.MethodDelete, p.DeleteURL, ""); status/100 != 2 {
			t.Fatalf("DELETE: %d", status)
		}
		if status, _ := useLink(t, http.MethodGet, p.GetURL, ""); status != http.StatusNotFound {
			t.Errorf("after the delete: %d", status)
		}
		if age := time.Since(p.Time); age < 0 || age > time.Minute || !p.ExpiresAt.After(p.Time) {
			t.Errorf("%+v", p)
		}
	}
	if _, err := m.client(api.RoleViewer).StoreProbe(t.Context()); err == nil {
		t.Error("a viewer may write into the object store")
	}
}

func TestProbesThatWereLeftAreSwept(t *testing.T) {
	m := newMesh(t)
	p, err := m.client(api.RoleNode).StoreProbe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := useLink(t, http.MethodPut, p.PutURL, "left behind"); status != 200 {
		t.Fatal(status)
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{time.Minute, 200}, {2 * time.Hour, 404}} {
		if _, err := m.store.Probe(t.Context(), "01JD0000000000000000000001", time.Now().Add(c.after)); err != nil {
			t.Fatal(err)
		}
		if status, _ := useLink(t, http.MethodGet, p.GetURL, ""); status != c.want {
			t.Errorf("after %s: %d, want %d", c.after, status, c.want)
		}
	}
	if !strings.HasPrefix(p.Key, artifacts.ProbePrefix) {
		t.Errorf("the probe lies at %s", p.Key)
	}
}
