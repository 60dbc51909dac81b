package ollama_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer/ollama"
)

type layers map[string]string // type's last part -> content

// store makes a store with one model.
func store(t *testing.T, path string, l layers) string {
	t.Helper()
	dir := t.TempDir()
	var list []map[string]any
	for kind, content := range l {
		sum := sha256.Sum256([]byte(content))
		hash := hex.EncodeToString(sum[:])
		write(t, filepath.Join(dir, "blobs", "sha256-"+hash), content)
		list = append(list, map[string]any{"mediaType": "application/vnd.ollama.image." + kind, "digest": "sha256:" + hash, "size": len(content)})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": list})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "manifests", path), string(raw))
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAModelIsFoundByItsName(t *testing.T) {
	all := layers{"model": "GGUF and more", "template": "{{ .Prompt }}", "system": "Be brief.", "license": "MIT", "params": "{}"}
	for source, path := range map[string]string{
		"ollama:smollm2":           "registry.ollama.ai/library/smollm2/latest",
		"ollama:smollm2:135m":      "registry.ollama.ai/library/smollm2/135m",
		"ollama:me/mine:v1":        "registry.ollama.ai/me/mine/v1",
		"ollama:hf.co/org/x:Q4_KM": "hf.co/org/x/Q4_KM",
	} {
		m, err := ollama.Find(context.Background(), []string{t.TempDir(), store(t, path, all)}, source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		data, err := os.ReadFile(m.Path)
		if err != nil || string(data) != "GGUF and more" || m.Template != "{{ .Prompt }}" || m.System != "Be brief." || m.License != "MIT" || m.Size != 13 || !strings.HasPrefix(source, "ollama:"+strings.TrimSuffix(m.Name, ":latest")) {
			t.Errorf("%s: %+v, %q, %v", source, m, data, err)
		}
	}
}

func TestWhatIsNoWholeModelIsRefused(t *testing.T) {
	const path = "registry.ollama.ai/library/m/latest"
	for label, c := range map[string]struct {
		source string
		layers layers
		spoil  func(dir string)
		want   string
	}{
		"another name": {"ollama:other", layers{"model": "x"}, nil, "which has m:latest); fetch it with: ollama pull other:latest"},
		"adapter":      {"ollama:m", layers{"model": "x", "adapter": "y"}, nil, "adapter on another model"},
		"projector":    {"ollama:m", layers{"projector": "y"}, nil, "images"},
		"no model":     {"ollama:m", layers{"license": "y"}, nil, "no model layer"},
		"damaged": {"ollama:m", layers{"model": "x"}, func(dir string) {
			blobs, _ := filepath.Glob(filepath.Join(dir, "blobs", "*"))
			write(t, blobs[0], "z")
		}, "damaged"},
		"gone":    {"ollama:m", layers{"model": "x"}, func(dir string) { os.RemoveAll(filepath.Join(dir, "blobs")) }, "ollama pull"},
		"no JSON": {"ollama:m", layers{"model": "x"}, func(dir string) { write(t, filepath.Join(dir, "manifests", path), "{") }, "manifest"},
		"bad digest": {"ollama:m", layers{}, func(dir string) {
			write(t, filepath.Join(dir, "manifests", path), `{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../x"}]}`)
		}, "digest"},
		"climbing":  {"ollama:../x", layers{"model": "x"}, nil, "is not NAME"},
		"too long":  {"ollama:a/b/c/d", layers{"model": "x"}, nil, "is not NAME"},
		"no name":   {"ollama:", layers{"model": "x"}, nil, "is not NAME"},
		"empty tag": {"ollama:m:", layers{"model": "x"}, nil, "is not NAME"},
	} {
		dir := store(t, path, c.layers)
		if c.spoil != nil {
			c.spoil(dir)
		}
		if _, err := ollama.Find(context.Background(), []string{dir}, c.source); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", label, err, c.want)
		}
	}
}

// OLLAMA_MODELS goes first, then the folder of who runs the command, then that of the service
// which Ollama's installer sets up on Linux.
func TestTheUsualPlacesAreLookedThrough(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	usual := []string{filepath.Join(home, ".ollama", "models")}
	if runtime.GOOS == "linux" {
		usual = append(usual, "/usr/share/ollama/.ollama/models")
	}
	if got := ollama.Stores(func(string) string { return "" }); !slices.Equal(got, usual) {
		t.Errorf("%q, want %q", got, usual)
	}
	named := func(key string) string { return map[string]string{"OLLAMA_MODELS": "/srv/models"}[key] }
	if got := ollama.Stores(named); !slices.Equal(got, append([]string{"/srv/models"}, usual...)) {
		t.Errorf("%q", got)
	}

	const path = "registry.ollama.ai/library/m/latest"
	first, second := store(t, path, layers{"model": "first"}), store(t, path, layers{"model": "second"})
	m, err := ollama.Find(context.Background(), []string{t.TempDir(), first, second}, "ollama:m")
	if err != nil || filepath.Dir(filepath.Dir(m.Path)) != first {
		t.Errorf("%+v, %v, want that of %s", m, err, first)
	}
	_, err = ollama.Find(context.Background(), []string{first, second}, "ollama:n")
	if err == nil || !strings.Contains(err.Error(), first+" (which has m:latest) nor in "+second) {
		t.Errorf("%v", err)
	}
	gone := filepath.Join(t.TempDir(), "none")
	_, err = ollama.Find(context.Background(), []string{gone}, "ollama:m")
	if err == nil || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), "OLLAMA_MODELS") {
		t.Errorf("%v", err)
	}
}

// No name and no manifest leads out of the store or makes the reader panic.
func FuzzFind(f *testing.F) {
	f.Add("m:latest", `{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../x","size":1}]}`)
	f.Add("a/b/c:d", `{"layers":null}`)
	dir := f.TempDir()
	path := filepath.Join(dir, "manifests", "registry.ollama.ai", "library", "m", "latest")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, manifest string) {
		if err := os.WriteFile(path, []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{name, "m"} {
			m, err := ollama.Find(context.Background(), []string{dir}, "ollama:"+n)
			if err == nil && filepath.Dir(m.Path) != filepath.Join(dir, "blobs") {
				t.Fatalf("%q %q: %s", n, manifest, m.Path)
			}
		}
	})
}
