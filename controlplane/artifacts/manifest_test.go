package artifacts_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
)

// meshOf is a mesh that knows models by name and needs objects.
type meshOf struct {
	current map[string]string
	needed  []string
}

func (m meshOf) Current(model string) (string, bool) {
	sum, ok := m.current[model]
	return sum, ok
}

func (m meshOf) Needed() map[string]bool {
	out := map[string]bool{}
	for _, key := range m.needed {
		out[key] = true
	}
	return out
}

func TestWhatNoModelNeedsIsSwept(t *testing.T) {
	s, e := s3test.Start(t)
	ctx := t.Context()
	blob := func(content string) api.Artifact {
		a, err := s.PutBytes(ctx, api.BucketModels, artifacts.BlobKey(sumOf([]byte(content))), []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	put := func(key string) string {
		if _, err := s.PutBytes(ctx, api.BucketModels, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
		return key
	}
	now, before := strings.Repeat("a", 64), strings.Repeat("b", 64)
	manifest := func(name, sum string, files ...api.Artifact) string {
		if err := s.PutManifest(ctx, api.Model{Name: name, SHA256: sum, Files: files}); err != nil {
			t.Fatal(err)
		}
		return artifacts.ManifestKey(name, sum)
	}
	needed, lost, abandoned := blob("of a model"), blob("of a model that only the bucket knows"), blob("of an import that came to no end")
	shared := put(artifacts.ModelKey("swept", before, "tokenizer.json"))
	keep := []string{
		needed.Key, manifest("swept", now, needed),
		lost.Key, manifest("unknown", before, lost), put(artifacts.ModelKey("unknown", before, "config.json")),
		shared, put("base/swept/by-hand.safetensors"), put("base/swept/in-a-folder/config.json"),
	}
	drop := []string{
		abandoned.Key, manifest("swept", before, needed), put(artifacts.ModelKey("swept", before, "config.json")),
		put(artifacts.ModelKey("swept", now, "sent-by-an-older-client.json")),
	}
	mesh := meshOf{current: map[string]string{"swept": now}, needed: []string{needed.Key, shared}}
	there := func(keys []string) (out []string) {
		for _, key := range keys {
			if _, err := raw(t, e).StatObject(ctx, api.BucketModels, key, minio.StatObjectOptions{}); err == nil {
				out = append(out, key)
			}
		}
		return out
	}
	if n, err := s.SweepModels(ctx, time.Hour, mesh); n != 0 || err != nil || len(there(drop)) != len(drop) {
		t.Errorf("young ones: %d removed, %v", n, err)
	}
	n, err := s.SweepModels(ctx, -time.Minute, mesh)
	if err != nil || n < len(drop) {
		t.Errorf("%d removed, %v", n, err)
	}
	if left := there(drop); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left := there(keep); !slices.Equal(left, keep) {
		t.Errorf("of %v there are only %v", keep, left)
	}
}

// A manifest that cannot be read may name anything: nothing is removed then.
func TestNothingIsSweptBesideAManifestThatCannotBeRead(t *testing.T) {
	s, _ := s3test.Start(t)
	ctx := t.Context()
	key := artifacts.ManifestKey("damaged", strings.Repeat("c", 64))
	if _, err := s.PutBytes(ctx, api.BucketModels, key, []byte("{")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Remove(ctx, api.BucketModels, key); err != nil {
			t.Error(err)
		}
	}()
	a, err := s.PutBytes(ctx, api.BucketModels, artifacts.BlobKey(sumOf([]byte("beside it"))), []byte("beside it"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.SweepModels(ctx, -time.Minute, meshOf{}); n != 0 || err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("%d removed, %v", n, err)
	}
	if err := s.Verify(ctx, []api.Artifact{a}); err != nil {
		t.Error(err)
	}
}
