//lint:file-ignore SA1019 Grafana 10 and 11, which many run, read this schema alone; its successor needs 12

package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/tunemesh/tunemesh/deploy/grafana"
)

const dashboardsDir = "../../deploy/grafana/dashboards"

func boards(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 5 {
		t.Fatalf("%d dashboards", len(files))
	}
	return files
}

func TestDashboardFilesAreThoseThatTheCodeBuilds(t *testing.T) {
	for name, want := range boards(t) {
		got, err := os.ReadFile(filepath.Join(dashboardsDir, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not what the code builds (%v): go generate ./deploy/grafana", name, err)
		}
	}
}

// Grafana's own schema reads every dashboard, and knows every field in it.
func TestGrafanaTakesTheDashboards(t *testing.T) {
	for name := range boards(t) {
		data, err := os.ReadFile(filepath.Join(dashboardsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(data); isFault(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Validate(); isFault(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// isFault passes over the SDK's list of no errors, which is not nil.
func isFault(err error) bool { return err != nil && err.Error() != "" }

func TestTheStrictReaderRefusesAnUnknownField(t *testing.T) {
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict([]byte(`{"title":"x","no_such_field":1}`)); !isFault(err) {
		t.Error("a field that Grafana does not know passes")
	}
}

// expressions are a dashboard's queries with its variables filled in.
func expressions(t *testing.T, data []byte) []string {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range d.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			all = append(all, strings.NewReplacer("$job", "j1", "$node", "n1").Replace(q.Expr))
		}
	}
	return all
}

func TestDashboardsAskForMetricsThatThereAre(t *testing.T) {
	names := exported(t)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: panels\n  rules:\n")
	n := 0
	for file, data := range boards(t) {
		for _, expr := range expressions(t, data) {
			for _, name := range metricsIn(expr) {
				if !known(name, names) {
					t.Errorf("%s: %s is no metric of the mesh, in %s", file, name, expr)
				}
			}
			fmt.Fprintf(&rules, "  - record: panel:%d\n    expr: %q\n", n, expr)
			n++
		}
	}
	if n < 40 {
		t.Fatalf("only %d queries", n)
	}
	// Prometheus's own parser reads each query.
	path := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, ".", "check", "rules", path)
}
