package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const prometheusDir = "../../deploy/prometheus"

// promtool runs Prometheus's own checker.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	cmd := exec.Command("promtool", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesItsConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(prometheusDir)); err != nil {
		t.Fatal(err)
	}
	// The configuration names a token's file, which an operator makes.
	if err := os.WriteFile(filepath.Join(dir, "tunemesh.token"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "check", "config", "prometheus.yml")
}

func TestRulesFireWhenTheyMustAndOnlyThen(t *testing.T) {
	promtool(t, prometheusDir, "test", "rules", "tests/alerts.yml", "tests/recording.yml")
}

var (
	alertName = regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`)
	testName  = regexp.MustCompile(`(?m)^- name: '?(\w+): (fires|is silent)`)
)

// An alert that nobody has seen fire may never do so.
func TestEveryAlertHasATestThatFiresAndOneThatDoesNot(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(prometheusDir, "rules/alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(prometheusDir, "tests/alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range testName.FindAllSubmatch(tests, -1) {
		seen[string(m[1])+" "+string(m[2])] = true
	}
	alerts := alertName.FindAllSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("found only %d alerts", len(alerts))
	}
	for _, m := range alerts {
		for _, how := range []string{"fires", "is silent"} {
			if !seen[string(m[1])+" "+how] {
				t.Errorf("no test shows that %s %s", m[1], how)
			}
		}
	}
}

// exporters are the folders whose metrics the mesh exports.
var exporters = []string{"../../controlplane/metrics", "../../controlplane/rest", "../../nodeagent/exporter"}

var declared = regexp.MustCompile(`(?:Name: |desc\()"([a-z_0-9]+)"`)

// exported are the names of all metrics, as the code declares them.
func exported(t *testing.T) []string {
	t.Helper()
	names := []string{"process_resident_memory_bytes", "up"}
	for _, dir := range exporters {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllSubmatch(data, -1) {
				names = append(names, string(m[1]))
			}
		}
	}
	return names
}

var (
	quoted = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)`)
	word   = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\(?`)
)

// metricsIn are the names of metrics in an expression: what is neither a
// function, nor a label, nor a keyword.
func metricsIn(expr string) []string {
	var names []string
	for _, w := range word.FindAllString(quoted.ReplaceAllString(expr, " "), -1) {
		if strings.HasSuffix(w, "(") || slices.Contains([]string{"and", "or", "unless", "bool", "sum", "max", "min", "e9", "e6"}, w) {
			continue
		}
		names = append(names, w)
	}
	return names
}

// known says whether a metric is exported or recorded.
func known(name string, exported []string) bool {
	if strings.HasPrefix(name, "tunemesh:") {
		return true // promtool's tests show what the recording rules make
	}
	for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(exported, base) {
			return true
		}
	}
	return false
}

func TestRulesNameMetricsThatThereAre(t *testing.T) {
	names := exported(t)
	expression := regexp.MustCompile(`(?m)^\s+expr: (.+)$`)
	found := 0
	for _, file := range []string{"alerts.yml", "recording.yml"} {
		data, err := os.ReadFile(filepath.Join(prometheusDir, "rules", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range expression.FindAllSubmatch(data, -1) {
			for _, name := range metricsIn(string(m[1])) {
				found++
				if !known(name, names) {
					t.Errorf("%s: %s is no metric of the mesh, in %s", file, name, m[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("found only %d metrics in the rules", found)
	}
}

func TestTheCheckOfNamesCanFail(t *testing.T) {
	got := metricsIn(`histogram_quantile(0.9, sum by (le) (rate(no_such_bucket{a="queue_depth"}[5m]))) or up > 2e9`)
	if !slices.Equal(got, []string{"no_such_bucket", "up"}) || known("no_such_bucket", exported(t)) {
		t.Errorf("names %v", got)
	}
}
