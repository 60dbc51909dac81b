package models_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// probe is a package of a few KB that PyPI always has: the example of its own guide.
const probe = "sampleproject"

// index is a place that pip fetches from; it is asked no more once it was away.
type index struct {
	mu   sync.Mutex
	away error
}

var pypi = &index{}

// fetch downloads packages into the folder dir. Only where the index cannot be reached at all,
// so that no package could be had, is the test skipped: anything else is a failure.
func (i *index) fetch(t testing.TB, limit time.Duration, dir string, packages ...string) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.away == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute)
		defer cancel()
		err := download(packages, func(options []string, packages ...string) error {
			return pip(ctx, append(append(options, "--dest", dir), packages...)...)
		})
		if err == nil {
			return
		}
		var away *awayError
		if !errors.As(err, &away) {
			t.Fatal(err)
		}
		i.away = err
	}
	t.Skipf("PyPI cannot be reached, so %s cannot be fetched: %v", strings.Join(packages, ", "), i.away)
}

// awayError says that PyPI gives nothing.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }

// download calls pip for the packages, and, where that fails, for one that is always there.
func download(packages []string, pip func(options []string, packages ...string) error) error {
	err := pip(nil, packages...)
	if err == nil {
		return nil
	}
	if probed := pip([]string{"--retries", "1", "--timeout", "20"}, probe); probed != nil {
		return &awayError{probed}
	}
	return fmt.Errorf("PyPI has %s, but does not give %s: %w", probe, strings.Join(packages, ", "), err)
}

func pip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "python3", append([]string{"-m", "pip", "download", "--no-deps"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pip download: %w: %s", err, out)
	}
	return nil
}

// A package that is gone, or damaged, is a failure as long as PyPI is there.
func TestOnlyPyPIsAbsenceIsNoFailure(t *testing.T) {
	wrong := errors.New("no matching distribution")
	for _, c := range []struct {
		asked, probed error
		away, fails   bool
	}{{nil, wrong, false, false}, {wrong, nil, false, true}, {wrong, wrong, true, true}} {
		err := download([]string{"a==1"}, func(_ []string, packages ...string) error {
			if packages[0] == probe {
				return c.probed
			}
			return c.asked
		})
		var away *awayError
		if errors.As(err, &away) != c.away || (err != nil) != c.fails {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// pip itself says so of an index that does not answer.
func TestAnIndexThatDoesNotAnswer(t *testing.T) {
	if os.Getenv("TUNEMESH_MODELS") != "1" {
		t.Skip("TUNEMESH_MODELS=1 calls pip; left out of the fast suite because that takes seconds")
	}
	t.Setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
	t.Setenv("PIP_RETRIES", "0")
	t.Setenv("PIP_FIND_LINKS", "")
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	dir, skipped := t.TempDir(), false
	t.Run("skipped", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		new(index).fetch(t, time.Minute, dir, smolPackage)
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*")); !skipped || err != nil || len(left) > 0 {
		t.Errorf("skipped: %v; %v, %v", skipped, left, err)
	}
}
