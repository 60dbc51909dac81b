package artifacts

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// Places of an attempt's files. The names are those of the stage contract.
const (
	PlaceArtifact  = "artifact"
	PlaceProcessed = "processed"
	PlaceAdapter   = "adapter"
	PlaceMerged    = "merged"
	PlaceGGUF      = "gguf"
)

// Places lists all of them.
var Places = []string{PlaceArtifact, PlaceProcessed, PlaceAdapter, PlaceMerged, PlaceGGUF}

// wellKnown are the artifacts that are published as JOB/NAME in the bucket
// artifacts.
var wellKnown = []string{"metrics.json", "training_curve.png", "model_card.json"}

// maxName bounds an artifact's name in bytes: S3 keys end at 1,024, file systems
// at 255 for a segment.
const (
	maxName    = 512
	maxSegment = 200
)

var segment = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+=@-]*$`)

// CheckName returns why a name, which may hold slashes, is no artifact name: it
// becomes a part of a key, a file below the store's folder and a file on every
// node that needs it.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("artifact name is %d bytes long, want 1 to %d", len(name), maxName)
	}
	for s := range strings.SplitSeq(name, "/") {
		if len(s) > maxSegment || !segment.MatchString(s) {
			return fmt.Errorf("artifact name %q: part %q is not allowed: use letters, digits and . _ + = @ -, not starting with a dot, at most %d", name, s, maxSegment)
		}
	}
	return nil
}

// CheckSegment is CheckName for a name without slashes: a checkpoint, a model.
func CheckSegment(name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("name %q must not hold a slash", name)
	}
	return CheckName(name)
}

// Nested returns two of the names of which one is a folder of the other, which
// the store cannot hold side by side; empty if there are none.
func Nested(names []string) (string, string) {
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
	}
	for _, n := range names {
		for dir := path.Dir(n); dir != "."; dir = path.Dir(dir) {
			if known[dir] {
				return dir, n
			}
		}
	}
	return "", ""
}

// DatasetKey is where a dataset's file lies in the bucket datasets.
func DatasetKey(id, extension string) string { return "raw/" + id + "." + extension }

// BlobKey is where the bytes of a base model's file lie in the bucket models: by
// their SHA-256, once for all models that have them.
func BlobKey(sum string) string { return blobs + sum }

// blobs is the folder of BlobKey.
const blobs = "blobs/"

// manifestName is the one file in the folder of a base model.
const manifestName = "manifest.json"

// ManifestKey is where it is written, for people, what blobs a base model is made
// of. sum is the model's SHA-256 (api.ModelSHA256).
func ManifestKey(model, sum string) string { return ModelKey(model, sum, manifestName) }

// ModelKey is where a file of a base model lies that came from an older program:
// in the folder of its model.
func ModelKey(model, sum, file string) string { return "base/" + model + "/" + sum[:12] + "/" + file }

// modelFolder matches what ModelKey makes. Under base/MODEL/ people may lay files
// and folders of their own.
var modelFolder = regexp.MustCompile(`^base/([^/]+)/([0-9a-f]{12})/.`)

// ofModel says whether a key is one that BlobKey or ModelKey makes.
func ofModel(bucket, key string) bool {
	return bucket == api.BucketModels && (strings.HasPrefix(key, blobs) || modelFolder.MatchString(key))
}

// PlaceKey is where an attempt's file lies; an empty place is an artifact. The
// fence in the key keeps the tries of a stage apart: no key is written twice.
func PlaceKey(place, job string, fence uint64, name string) (bucket, key string, err error) {
	rest := job + "/" + strconv.FormatUint(fence, 10) + "/" + name
	switch place {
	case "", PlaceArtifact:
		return api.BucketArtifacts, rest, nil
	case PlaceProcessed:
		return api.BucketDatasets, "processed/" + rest, nil
	case PlaceAdapter:
		return api.BucketModels, "adapters/" + rest, nil
	case PlaceMerged:
		return api.BucketModels, "merged/" + rest, nil
	case PlaceGGUF:
		return api.BucketModels, "gguf/" + rest, nil
	}
	return "", "", fmt.Errorf("unknown place %q, want one of %s", place, strings.Join(Places, ", "))
}

// CheckpointKey is where a file of a checkpoint lies in the bucket checkpoints.
func CheckpointKey(job, checkpoint string, fence uint64, file string) string {
	return job + "/" + checkpoint + "/" + strconv.FormatUint(fence, 10) + "/" + file
}

// Owns says whether an artifact lies where an attempt's own files lie, so that
// an agent cannot claim what another attempt made.
func Owns(a api.Artifact, job string, fence uint64) bool {
	for _, place := range Places {
		if bucket, key, err := PlaceKey(place, job, fence, a.Name); err == nil && bucket == a.Bucket && key == a.Key {
			return true
		}
	}
	return false
}

// OwnsCheckpoint is Owns for a checkpoint's files.
func OwnsCheckpoint(a api.Artifact, job, checkpoint string, fence uint64) bool {
	return a.Bucket == api.BucketCheckpoints && a.Key == CheckpointKey(job, checkpoint, fence, a.Name)
}

// fenceOf is the fence in the key of an attempt's file, as PlaceKey and
// CheckpointKey make them.
func fenceOf(bucket, key string) (uint64, bool) {
	parts := strings.Split(key, "/")
	at := -1
	switch {
	case bucket == api.BucketArtifacts && len(parts) > 2:
		at = 1
	case bucket == api.BucketCheckpoints && len(parts) > 3:
		at = 2
	case bucket == api.BucketDatasets && parts[0] == "processed" && len(parts) > 3:
		at = 2
	case bucket == api.BucketModels && len(parts) > 3 && (parts[0] == "adapters" || parts[0] == "merged" || parts[0] == "gguf"):
		at = 2
	}
	if at < 0 {
		return 0, false
	}
	fence, err := strconv.ParseUint(parts[at], 10, 64)
	return fence, err == nil
}
