package rules

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tunemesh/tunemesh/"

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,GoFiles", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	d := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// within says whether a package stands in a room or in a room of that room.
func within(path, room string) bool {
	return path == room || strings.HasPrefix(path, room+"/")
}

// mayImport lists, for each room, the only rooms of ours that it may use. The
// longest matching room counts. A room always may use its own subrooms.
var mayImport = map[string][]string{
	"api":                    {},
	"api/client":             {"api"},
	"scheduler":              {"api"},
	"cli":                    {"api"},
	"mesh":                   {},
	"controlplane/state":     {"api"},
	"controlplane/consensus": {"controlplane/state", "failpoint"},
	"controlplane/dispatch":  {"api", "controlplane/state", "scheduler", "tracing", "failpoint"},
	"controlplane/events":    {"api", "failpoint"},
	"controlplane/artifacts": {"api"},
	"controlplane/auth":      {"api"},
	"controlplane/trust":     {},
	"controlplane/metrics":   {"api", "controlplane/state"},
	"controlplane/rest":      {"api", "controlplane/state", "controlplane/auth", "controlplane/events", "controlplane/artifacts", "controlplane/consensus", "trainer/contract", "trainer/plan", "tracing", "failpoint"},
	"controlplane":           {"api", "mesh", "scheduler", "trainer/contract", "failpoint"},
	"nodeagent":              {"api", "trainer/contract", "tracing", "failpoint"},
	"tracing":                {},
	"failpoint":              {},
	"trainer":                {"failpoint"},
	"trainer/contract":       {},
	"models":                 {"trainer", "examples"},
	"examples":               {},
	"deploy":                 {},
	"cmd":                    {"api", "cli", "tracing", "controlplane", "nodeagent", "mesh", "trainer", "models", "examples"},
	"test":                   {"api", "failpoint", "deploy", "cli", "controlplane", "nodeagent", "mesh", "trainer", "models", "examples", "scheduler"},
}

func room(path string) string {
	best := ""
	for r := range mayImport {
		if within(path, r) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		home := room(p.ImportPath)
		if home == "" {
			t.Errorf("package %s stands in no room: add it to the table, with the reason in docs/architecture.md", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if !ours || within(target, home) {
				continue
			}
			if !slices.ContainsFunc(mayImport[home], func(allowed string) bool { return within(target, allowed) }) {
				t.Errorf("%s (room %s) imports %s", p.ImportPath, home, target)
			}
		}
	}
}

// soleImporters: each outside system enters by one door.
var soleImporters = map[string][]string{
	"github.com/hashicorp/raft":           {"controlplane/consensus"},
	"github.com/hashicorp/go-memdb":       {"controlplane/state"},
	"go.etcd.io/bbolt":                    {"controlplane/consensus"},
	"github.com/hashicorp/memberlist":     {"mesh"},
	"github.com/minio/minio-go/v7":        {"controlplane/artifacts"},
	"github.com/redis/go-redis/v9":        {"controlplane/events/redis"},
	"github.com/versity/versitygw":        {"controlplane/artifacts"},
	"github.com/danielgtaylor/huma/v2":    {"controlplane/rest"},
	"github.com/NVIDIA/go-nvml":           {"nodeagent/capability"},
	"github.com/dlclark/regexp2":          {"trainer/tokenizer"},
	"github.com/ardanlabs/jinja":          {"trainer/template/jinja"},
	"github.com/charmbracelet/x/ansi":     {"cli"},
	"gonum.org/v1/plot":                   {"trainer/export"},
	"github.com/grafana":                  {"deploy/grafana"},
	"go.opentelemetry.io/otel":            {"tracing"},
	"google.golang.org/grpc":              {"trainer/inference"},
	"github.com/spf13/cobra":              {"cli", "cmd"},
	"github.com/prometheus/client_golang": {"controlplane", "nodeagent/exporter"},
	"github.com/anishathalye/porcupine":   {"test/invariant"},
}

func TestEachOutsideSystemHasOneImporter(t *testing.T) {
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for system, doors := range soleImporters {
				if within(imported, system) && !slices.ContainsFunc(doors, func(d string) bool { return within(p.ImportPath, d) }) {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, imported, strings.Join(doors, ", "))
				}
			}
		}
	}
}

func TestTheWordsUseTheStandardLibraryOnly(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != "api" && p.ImportPath != "trainer/contract" {
			continue
		}
		for _, imported := range p.Imports {
			if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	banned := []string{"util", "utils", "common", "helpers", "misc"}
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(p.Doc) < 20 {
			t.Errorf("package %s has no doc comment", p.ImportPath)
		}
		for _, part := range strings.Split(p.ImportPath, "/") {
			if slices.Contains(banned, part) {
				t.Errorf("package %s: the name %q says nothing", p.ImportPath, part)
			}
		}
	}
}
