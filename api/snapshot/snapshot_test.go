package snapshot_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api/snapshot"
)

const rows = `{"format":"tunemesh-state","version":1,"index":7}
{"t":"jobs","r":{"id":"a"}}
{"t":"jobs","r":{"id":"b"}}
{"t":"nodes","r":{"id":"n"}}
{"end":3}
`

func file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := snapshot.NewWriter(&b, snapshot.Header{Index: 7, Term: 2, Server: "s1", NotIncluded: []string{"objects"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range strings.SplitAfter(rows, "j") { // pieces that are no lines
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	r, err := snapshot.NewReader(bytes.NewReader(file(t)))
	if err != nil {
		t.Fatal(err)
	}
	if h := r.Header(); h.Index != 7 || h.Term != 2 || h.Version != snapshot.Version {
		t.Errorf("header %+v", h)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != rows {
		t.Errorf("%q %v", got, err)
	}
	s, err := snapshot.Inspect(bytes.NewReader(file(t)))
	if err != nil || s.Rows["jobs"] != 2 || s.Rows["nodes"] != 1 || s.NotIncluded[0] != "objects" || len(s.SHA256) != 64 {
		t.Errorf("%+v %v", s, err)
	}
}

// Every cut and every changed byte is found, wherever it is.
func TestDamageIsFound(t *testing.T) {
	whole := file(t)
	for n := range whole {
		if _, err := snapshot.Inspect(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("cut at %d of %d: not found", n, len(whole))
		}
	}
	// Damage that gzip does not see: the file unpacked, changed, packed again.
	zip, _ := gzip.NewReader(bytes.NewReader(whole))
	plain, _ := io.ReadAll(zip)
	repack := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(data)
		_ = w.Close()
		return b.Bytes()
	}
	if _, err := snapshot.Inspect(bytes.NewReader(repack(plain))); err != nil {
		t.Fatal(err)
	}
	for i := range plain {
		changed := bytes.Clone(plain)
		changed[i] ^= 1
		if _, err := snapshot.Inspect(bytes.NewReader(repack(changed))); err == nil {
			t.Fatalf("byte %d of %q changed: not found", i, plain)
		}
		if _, err := snapshot.Inspect(bytes.NewReader(repack(plain[:i]))); err == nil {
			t.Fatalf("unpacked and cut at %d: not found", i)
		}
	}
}

func TestOtherFilesAreRefusedByName(t *testing.T) {
	if _, err := snapshot.NewReader(strings.NewReader("text,label\n")); !errors.Is(err, snapshot.ErrFormat) {
		t.Error(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, `{"format":"tunemesh-snapshot","version":99}`+"\n{}\n")
	_ = w.Close()
	if _, err := snapshot.NewReader(&b); !errors.Is(err, snapshot.ErrNewer) {
		t.Error(err)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(file(f))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = snapshot.Inspect(bytes.NewReader(data))
	})
}
