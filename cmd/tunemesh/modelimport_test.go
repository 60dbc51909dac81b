package main

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// hubOf serves a folder as a hub's repository org/mini.
func hubOf(t *testing.T, files fs.FS) *httptest.Server {
	t.Helper()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	var siblings []map[string]any
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		git := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
		f := map[string]any{"rfilename": name, "size": len(data), "blobId": hex.EncodeToString(git[:])}
		if strings.HasSuffix(name, ".safetensors") {
			sum := sha256.Sum256(data)
			f["lfs"] = map[string]any{"sha256": hex.EncodeToString(sum[:]), "size": len(data)}
		}
		siblings = append(siblings, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/models/org/mini/revision/main", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": siblings})
	})
	mux.Handle("GET /org/mini/resolve/"+commit+"/", http.StripPrefix("/org/mini/resolve/"+commit, http.FileServerFS(files)))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func runImport(t *testing.T, source, cache string) cli.Imported {
	t.Helper()
	phases := map[string]bool{}
	found, err := importModel(context.Background(), cli.ImportRequest{Source: source, OutDir: filepath.Join(t.TempDir(), "out"), CacheDir: cache, Progress: func(phase string, _, _ int64) { phases[phase] = true }, Notice: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if !phases["convert"] || phases["fetch"] != strings.HasPrefix(source, "hf:") {
		t.Errorf("%s: phases %v", source, phases)
	}
	return found
}

// The same model is the same content, whichever way it comes: from a folder, from a hub, from
// Ollama's store.
func TestAModelIsTheSameFromEverywhere(t *testing.T) {
	folder, cache := filepath.Join(t.TempDir(), "mini"), t.TempDir()
	if err := os.CopyFS(folder, models.Mini()); err != nil {
		t.Fatal(err)
	}
	local := runImport(t, folder, "")
	t.Setenv("HF_ENDPOINT", hubOf(t, models.Mini()).URL)
	remote := runImport(t, "hf:org/mini", cache)
	if api.ModelSHA256(local.Files) != api.ModelSHA256(remote.Files) || !strings.HasPrefix(remote.Source, "hf:org/mini@0123456789ab") {
		t.Errorf("%+v\n%+v", local, remote)
	}
	if left, _ := os.ReadDir(filepath.Join(cache, "org--mini")); len(left) != 1 {
		t.Errorf("the download is gone before the mesh has it: %v", left)
	}
	remote.Done()
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	file := filepath.Join(t.TempDir(), "mini.gguf")
	if err := gguf.Export(context.Background(), folder, file, gguf.Options{Type: "F16"}); err != nil {
		t.Fatal(err)
	}
	fromFile := runImport(t, file, "")
	store := t.TempDir()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])
	license := "Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/licenses/\n"
	licenseSum := sha256.Sum256([]byte(license))
	licenseHash := hex.EncodeToString(licenseSum[:])
	layer := func(kind, hash string, size int) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.ollama.image.%s","digest":"sha256:%s","size":%d}`, kind, hash, size)
	}
	for name, text := range map[string]string{
		"blobs/sha256-" + hash:                                 string(data),
		"blobs/sha256-" + licenseHash:                          license,
		"manifests/registry.ollama.ai/library/mini/latest":     fmt.Sprintf(`{"layers":[%s]}`, layer("model", hash, len(data))),
		"manifests/registry.ollama.ai/library/licensed/latest": fmt.Sprintf(`{"layers":[%s,%s]}`, layer("model", hash, len(data)), layer("license", licenseHash, len(license))),
	} {
		path := filepath.Join(store, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("OLLAMA_MODELS", store)
	fromOllama := runImport(t, "ollama:mini", "")
	if api.ModelSHA256(fromFile.Files) != api.ModelSHA256(fromOllama.Files) || fromOllama.Source != "ollama:mini:latest" {
		t.Errorf("%+v\n%+v", fromFile, fromOllama)
	}
	if !slices.ContainsFunc(fromOllama.Files, func(f api.ModelFile) bool { return f.Name == "tokenizer.json" }) {
		t.Errorf("%+v", fromOllama.Files)
	}
	// Ollama's licence is the model's: in its record, which cards are made from, and
	// beside it, for those who get what was tuned.
	out := filepath.Join(t.TempDir(), "licensed")
	licensed, err := importModel(t.Context(), cli.ImportRequest{Source: "ollama:licensed", OutDir: out, Progress: func(string, int64, int64) {}})
	if err != nil || licensed.License != "apache-2.0" {
		t.Errorf("%+v, %v", licensed, err)
	}
	record, err := os.ReadFile(filepath.Join(out, "import.json"))
	if err != nil || !strings.Contains(string(record), `"license": "apache-2.0"`) {
		t.Errorf("%s, %v", record, err)
	}
	if text, err := os.ReadFile(filepath.Join(out, "LICENSE")); err != nil || string(text) != license {
		t.Errorf("%q, %v", text, err)
	}
}
