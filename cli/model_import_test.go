package cli_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

// fakeImport copies a file that says "refuse" or what the model shall hold; of a hub it
// fetches "from the hub", of a folder it takes model.safetensors.
func fakeImport(_ context.Context, r cli.ImportRequest) (cli.Imported, error) {
	outDir, dtype := r.OutDir, r.DType
	progress := func(done, total int64) { r.Progress("convert", done, total) }
	source := r.Source
	if st, err := os.Stat(source); err == nil && st.IsDir() {
		source = filepath.Join(source, "model.safetensors")
	}
	data, err := os.ReadFile(source)
	from, done := "", func() {}
	if strings.HasPrefix(source, "hf:") || strings.HasPrefix(source, "ollama:") {
		r.Progress("fetch", 5, 10)
		r.Progress("fetch", 10, 10)
		data, err, from = []byte("from the hub"), nil, source+"@0123"
		done = func() { fetchedDone++ }
	}
	if err != nil {
		return cli.Imported{}, err
	}
	switch string(data) {
	case "refuse":
		return cli.Imported{}, fmt.Errorf("import %s: architectures is [Qwen2ForCausalLM]", r.Name)
	case "full":
		return cli.Imported{}, fmt.Errorf("import %s: %w", r.Name, &fs.PathError{Op: "write", Path: "model.safetensors", Err: syscall.ENOSPC})
	case "away":
		r.Notice("the hub at http://hub is away; trying again in 1s.")
		return cli.Imported{}, cli.Unreachable("", "the hub at http://hub is away (after 6 tries)")
	}
	if err := os.MkdirAll(outDir, 0o755); err != nil {
		return cli.Imported{}, err
	}
	if err := os.WriteFile(filepath.Join(outDir, "model.safetensors"), data, 0o644); err != nil {
		return cli.Imported{}, err
	}
	progress(1, 2)
	progress(2, 2)
	sum := sha256.Sum256(data)
	return cli.Imported{
		Architecture: "LlamaForCausalLM", Parameters: 134_515_008, DType: "F32", SourceDType: "Q4_1" + dtype, Context: 8192, Tokenizer: "byte-level BPE, 49152 tokens",
		Template: "own", License: "apache-2.0", Notes: []string{"the weights are exact"}, Warnings: []string{"set template to chatml in the job's config"},
		Files:  []api.ModelFile{{Name: "model.safetensors", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}},
		Source: from, Done: done,
	}, nil
}

// fetchedDone counts how often a download was given up because the mesh has the model.
var fetchedDone int

func modelFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "My Model (v2).Q4_1.gguf")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAModelIsImported(t *testing.T) {
	mesh, work := demoMesh(), t.TempDir()
	l := cmdline{t: t, mesh: mesh}
	r := l.run("model", "import", modelFile(t, "weights"), "--work-dir", work)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	golden(t, "model-import.golden", r.out+r.err)
	if want := []string{"model.safetensors weights"}; !slices.Equal(mesh.uploads, want) {
		t.Errorf("uploaded %q, want %q", mesh.uploads, want)
	}
	if len(mesh.manifests) != 1 || mesh.manifests[0].License != "apache-2.0" || mesh.manifests[0].Source != "" || mesh.manifests[0].Replace || len(mesh.manifests[0].Files) != 1 {
		t.Errorf("manifests %+v", mesh.manifests)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind, %v", left, err)
	}
	r = l.run("model", "import", modelFile(t, "weights"), "--name", "small", "--dtype", "bf16", "--json")
	var m api.Model
	if err := json.Unmarshal([]byte(r.out), &m); err != nil || m.Name != "small" {
		t.Errorf("%+v, %v", r, err)
	}
}

// sumOf is a content's SHA-256 in hex, and that of a model that is one file of it.
func sumOf(content string) (file, model string) {
	sum := sha256.Sum256([]byte(content))
	file = hex.EncodeToString(sum[:])
	return file, api.ModelSHA256([]api.ModelFile{{Name: "model.safetensors", SHA256: file}})
}

func TestAModelThatIsThereIsNotSentAgain(t *testing.T) {
	mesh := demoMesh()
	file, model := sumOf("weights")
	mesh.models = append(mesh.models, api.Model{Name: "same", SHA256: model}, api.Model{Name: "other", SHA256: "00"})
	mesh.stored = []string{file}
	l := cmdline{t: t, mesh: mesh}
	if r := l.run("model", "import", modelFile(t, "weights"), "--name", "same"); r.code != 0 || !strings.Contains(r.err, "already: nothing was sent") {
		t.Errorf("%+v", r)
	}
	mesh.manifests = nil
	if r := l.run("model", "import", modelFile(t, "weights"), "--name", "other"); r.code != cli.ExitRefused || !strings.Contains(r.err, "--replace") {
		t.Errorf("%+v", r)
	}
	if len(mesh.uploads) > 0 || len(mesh.manifests) > 0 {
		t.Errorf("sent %q %+v", mesh.uploads, mesh.manifests)
	}
	if r := l.run("model", "import", modelFile(t, "weights"), "--name", "other", "--replace"); r.code != 0 || len(mesh.manifests) != 1 || !mesh.manifests[0].Replace {
		t.Errorf("%+v", r)
	}
}

// Another name for what the mesh has costs no bytes.
func TestAModelHasAnotherNameWithoutBeingSentAgain(t *testing.T) {
	mesh := demoMesh()
	file, model := sumOf("weights")
	mesh.models = append(mesh.models, api.Model{Name: "first", SHA256: model})
	mesh.stored = []string{file}
	r := cmdline{t: t, mesh: mesh}.run("model", "import", modelFile(t, "weights"), "--name", "second")
	if r.code != 0 || !strings.Contains(r.err, "already, as first too") || len(mesh.uploads) > 0 || len(mesh.manifests) != 1 || !strings.Contains(r.err, "--model second ") {
		t.Errorf("%+v", r)
	}
}

// What the store turns out to lack when all seems to be there is sent again.
func TestAnImportSendsAgainWhatTheStoreLost(t *testing.T) {
	mesh := demoMesh()
	mesh.lost = 1
	r := cmdline{t: t, mesh: mesh}.run("model", "import", modelFile(t, "weights"), "--name", "small")
	if r.code != 0 || len(mesh.uploads) != 2 || len(mesh.manifests) != 2 {
		t.Errorf("%+v: sent %q", r, mesh.uploads)
	}
	mesh.lost = 100
	if r := (cmdline{t: t, mesh: mesh}).run("model", "import", modelFile(t, "weights"), "--name", "small"); r.code == 0 || !strings.Contains(r.err, "upload it again") {
		t.Errorf("%+v", r)
	}
}

func TestADryRunNeedsNoMesh(t *testing.T) {
	r := cmdline{t: t}.run("model", "import", modelFile(t, "weights"), "--dry-run", "--json")
	var found cli.Imported
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || r.code != 0 || found.Architecture != "LlamaForCausalLM" || len(found.Files) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongImportsAreRefusedBeforeTheWork(t *testing.T) {
	mesh := demoMesh()
	for want, args := range map[string][]string{
		"no such file":              {"nothing.gguf"},
		"Qwen2ForCausalLM":          {modelFile(t, "refuse")},
		"none that is known":        {modelFile(t, "weights"), "--dtype", "int4"},
		"is no name for a model":    {modelFile(t, "weights"), "--name", "../x"},
		"no place to work in":       {modelFile(t, "weights"), "--work-dir", filepath.Join(t.TempDir(), "none")},
		"model import needs SOURCE": {},
	} {
		r := cmdline{t: t, mesh: mesh}.run(append([]string{"model", "import"}, args...)...)
		if r.code != cli.ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
	}
	if len(mesh.uploads) > 0 {
		t.Errorf("uploaded %q", mesh.uploads)
	}
}

// What an import fails of has its own exit code, the name that was given, and what helps.
func TestAnImportsFaultIsTold(t *testing.T) {
	work := t.TempDir()
	for content, want := range map[string]struct {
		code int
		said string
	}{
		"refuse": {cli.ExitUsage, "(v2).Q4_1.gguf: architectures is [Qwen2ForCausalLM]"},
		"full":   {cli.ExitInternal, "Hint: make room in " + work + ", or name a folder on another disk with --work-dir"},
		"away":   {cli.ExitUnreachable, "Waiting: the hub at http://hub is away; trying again in 1s. Error: the hub at http://hub is away (after 6 tries)"},
	} {
		r := cmdline{t: t}.run("model", "import", modelFile(t, content), "--work-dir", work, "--dry-run")
		if said := strings.Join(strings.Fields(r.err), " "); r.code != want.code || !strings.Contains(said, want.said) {
			t.Errorf("%s: %d, %s, want %d, %q", content, r.code, said, want.code, want.said)
		}
	}
}

// What is fetched is named by its source, and let go when the mesh has it.
func TestAModelIsPulled(t *testing.T) {
	for source, name := range map[string]string{"hf:Org/My-Model.v2@main": "my-model.v2", "hf:org/x/Sub.Q4_K_M.gguf": "sub.q4_k_m", "ollama:smollm2:135m": "smollm2-135m", "ollama:smollm2:latest": "smollm2"} {
		mesh, before := demoMesh(), fetchedDone
		r := cmdline{t: t, mesh: mesh}.run("model", "pull", source)
		if r.code != 0 || !strings.Contains(r.out, source+"@0123") || !strings.Contains(r.err, "--model "+name+" ") || !slices.Equal(mesh.uploads, []string{"model.safetensors from the hub"}) {
			t.Errorf("%s: %+v, %q", source, r, mesh.uploads)
		}
		if mesh.manifests[0].Source != source+"@0123" {
			t.Errorf("the mesh is told that %s comes from %q", source, mesh.manifests[0].Source)
		}
		if fetchedDone != before+1 {
			t.Errorf("%s: the download was let go %d times", source, fetchedDone-before)
		}
	}
	r := cmdline{t: t}.run("model", "pull", "hf:org/x", "--dry-run", "--json")
	var found cli.Imported
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || found.Source != "hf:org/x@0123" {
		t.Errorf("%+v, %v", r, err)
	}
	if r := (cmdline{t: t, mesh: demoMesh()}).run("model", "pull", "./folder"); r.code != cli.ExitUsage || !strings.Contains(r.err, "hf:ORG/NAME") {
		t.Errorf("%+v", r)
	}
}

func TestAModelInTheBucketIsPulled(t *testing.T) {
	mesh := demoMesh()
	mesh.bytes = map[string]string{"model.safetensors": "in the bucket", "config.json": "{}", "m.gguf": "in the bucket"}
	file := func(name string) api.Artifact { return api.Artifact{Name: name, Size: int64(len(mesh.bytes[name]))} }
	mesh.objects = map[string][]api.Artifact{"Mine": {file("config.json"), file("model.safetensors")}, "one": {file("m.gguf")}}
	for _, name := range []string{"Mine", "one"} {
		mesh.uploads, mesh.models = nil, nil
		r := cmdline{t: t, mesh: mesh}.run("model", "pull", "s3:"+name)
		if r.code != 0 || !strings.Contains(r.out, "s3:"+name) || !slices.Equal(mesh.uploads, []string{"model.safetensors in the bucket"}) {
			t.Errorf("%+v, %q", r, mesh.uploads)
		}
	}
	mesh.full = "m.gguf"
	if r := (cmdline{t: t, mesh: mesh}).run("model", "pull", "s3:one"); r.code != cli.ExitInternal || !strings.Contains(r.err, "fetch s3:one: ") || !strings.Contains(r.err, "--work-dir") {
		t.Errorf("%+v", r)
	}
	if r := (cmdline{t: t, mesh: mesh}).run("model", "pull", "s3:nothing"); r.code == 0 {
		t.Errorf("%+v", r)
	}
	if r := (cmdline{t: t, mesh: mesh}).run("model", "pull", "s3:../x"); r.code != cli.ExitUsage {
		t.Errorf("%+v", r)
	}
}
