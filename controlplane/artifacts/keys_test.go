package artifacts_test

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

func TestNoKeyIsTheFolderOfAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"metrics.json", "a", "a/b", "41", "epoch_1", "adapter/x.bin"})
		job := rapid.SampledFrom([]string{"01J", "01K"})
		fence := rapid.Uint64Range(1, 50)
		all := map[string]bool{}
		add := func(bucket, key string) { all[bucket+"/"+key] = true }
		for range rapid.IntRange(1, 20).Draw(t, "keys") {
			j := job.Draw(t, "job")
			f := fence.Draw(t, "fence")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				// One attempt's own names do not nest: the route checks that, and here
				// the endings see to it.
				bucket, key, err := artifacts.PlaceKey(rapid.SampledFrom(artifacts.Places).Draw(t, "place"), j, f, "x/"+name.Draw(t, "name")+".f")
				if err != nil {
					t.Fatal(err)
				}
				add(bucket, key)
			case 1:
				add(api.BucketCheckpoints, artifacts.CheckpointKey(j, name.Filter(func(s string) bool { return !strings.Contains(s, "/") }).Draw(t, "checkpoint"), f, "x/"+name.Draw(t, "name")+".f"))
			case 2:
				for _, n := range []string{"metrics.json", "training_curve.png", "model_card.json"} {
					add(api.BucketArtifacts, j+"/"+n)
				}
			}
		}
		for k := range all {
			for dir := path.Dir(k); dir != "."; dir = path.Dir(dir) {
				if all[dir] {
					t.Fatalf("%s is a folder of %s", dir, k)
				}
			}
		}
	})
}

func TestNames(t *testing.T) {
	for _, good := range []string{"metrics.json", "adapter/adapter_model.safetensors", "a-b_c.d/e", "model-00001-of-00002.safetensors"} {
		if err := artifacts.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "..", "a/../b", ".hidden", "a b", "ü", "a\x00", "a\\b", strings.Repeat("a", 201), strings.Repeat("ab/", 200) + "x"} {
		if artifacts.CheckName(bad) == nil {
			t.Errorf("%q is allowed", bad)
		}
	}
	if a, b := artifacts.Nested([]string{"x", "a/b/c", "a/b"}); a != "a/b" || b != "a/b/c" {
		t.Errorf("Nested: %q %q", a, b)
	}
	if a, _ := artifacts.Nested([]string{"a/b", "a/c", "ab"}); a != "" {
		t.Errorf("Nested found %q among names that do not nest", a)
	}
}

func TestAnAttemptOwnsItsOwnKeysOnly(t *testing.T) {
	a := api.Artifact{Name: "adapter/x", Bucket: "models", Key: "adapters/01J/41/adapter/x"}
	if !artifacts.Owns(a, "01J", 41) {
		t.Error("an attempt does not own its own artifact")
	}
	if artifacts.Owns(a, "01J", 42) || artifacts.Owns(a, "01K", 41) {
		t.Error("an attempt owns another's artifact")
	}
}
