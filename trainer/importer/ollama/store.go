package ollama

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Model is one in the store.
type Model struct {
	Name     string // "smollm2:135m"
	Path     string // of the GGUF file
	SHA256   string
	Size     int64
	Template string // Ollama's, a Go template; "" if there is none
	System   string // the system message that Ollama puts before a talk
	License  string // the text
}

// Types of layers.
const (
	layerModel     = "application/vnd.ollama.image.model"
	layerTemplate  = "application/vnd.ollama.image.template"
	layerSystem    = "application/vnd.ollama.image.system"
	layerLicense   = "application/vnd.ollama.image.license"
	layerAdapter   = "application/vnd.ollama.image.adapter"
	layerProjector = "application/vnd.ollama.image.projector"
)

// maxText bounds a manifest and the layers that are texts.
const maxText = 4 << 20

type manifest struct {
	Layers []layer `json:"layers"`
}

type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

var (
	namePart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digest   = regexp.MustCompile(`^sha256:([0-9a-f]{64})$`)
)

// Find reads the manifest of "ollama:NAME", "ollama:NAME:TAG", "ollama:OWNER/NAME:TAG" or
// "ollama:HOST/OWNER/NAME:TAG" in the first of the stores that has it, and makes sure that the
// model's file is whole.
func Find(ctx context.Context, stores []string, source string) (Model, error) {
	m, err := find(ctx, stores, strings.TrimPrefix(source, "ollama:"))
	if err != nil {
		return m, fmt.Errorf("ollama: %w", err)
	}
	return m, nil
}

func find(ctx context.Context, stores []string, name string) (Model, error) {
	path, tag, tagged := strings.Cut(name, ":")
	if !tagged {
		tag = "latest"
	}
	parts := append(strings.Split(path, "/"), tag)
	for _, p := range parts {
		if !namePart.MatchString(p) || len(parts) > 4 {
			return Model{}, fmt.Errorf("%q is not NAME or NAME:TAG", name)
		}
	}
	m := Model{Name: path + ":" + tag}
	defaults := []string{"registry.ollama.ai", "library"}
	parts = append(defaults[:4-len(parts)], parts...)
	dir, file, raw, err := lookUp(stores, m.Name, filepath.Join(parts...))
	if err != nil {
		return m, err
	}
	var list manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return m, fmt.Errorf("the manifest %s is damaged (%w); fetch the model again with: ollama pull %s", file, err, m.Name)
	}
	for _, l := range list.Layers {
		if err := m.add(ctx, dir, l); err != nil {
			return m, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if m.Path == "" {
		return m, fmt.Errorf("%s has no model layer: it runs elsewhere, and its weights are not on this machine; choose another model", m.Name)
	}
	return m, nil
}

func (m *Model) add(ctx context.Context, dir string, l layer) error {
	d := digest.FindStringSubmatch(l.Digest)
	if d == nil {
		return fmt.Errorf("a layer has the digest %q", l.Digest)
	}
	path := filepath.Join(dir, "blobs", "sha256-"+d[1])
	switch l.MediaType {
	case layerAdapter:
		return errors.New("it is an adapter on another model, which is not imported: import that one, and tune it again")
	case layerProjector:
		return errors.New("it reads images too, which is not supported: choose a model of text alone")
	case layerModel:
		if m.Path != "" {
			return errors.New("it has several model layers, which are not supported: choose another model")
		}
		m.Path, m.SHA256, m.Size = path, d[1], l.Size
		return denied(dir, whole(ctx, path, d[1], l.Size))
	}
	into := map[string]*string{layerTemplate: &m.Template, layerSystem: &m.System, layerLicense: &m.License}[l.MediaType]
	if into == nil { // settings of generating
		return nil
	}
	text, err := readText(path)
	*into += string(text)
	return denied(dir, err)
}

// whole checks a blob's size and sum.
func whole(ctx context.Context, path, want string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the model's file %s is not there; fetch it again with ollama pull", path)
		}
		return fmt.Errorf("the model's file: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, &reader{ctx, f})
	if err != nil {
		return err
	}
	if n != size || hex.EncodeToString(sum.Sum(nil)) != want {
		return fmt.Errorf("the model's file %s is damaged; fetch it again with ollama pull", path)
	}
	return nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	f   *os.File
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.f.Read(p)
}

func readText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(data) > maxText {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxText>>20)
	}
	return data, err
}
