package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// ModelFile describes one file of a base model before it is sent.
type ModelFile struct {
	Name   string `json:"name" example:"model.safetensors"`
	Size   int64  `json:"size" doc:"bytes"`
	SHA256 string `json:"sha256"`
}

// ModelUploads asks for presigned PUT URLs for a base model's files; all of them, for
// together they say where they lie. The answer is an UploadReply.
//
//	POST /v1/models/{name}/uploads
type ModelUploads struct {
	Files []ModelFile `json:"files"`
	// Sealed: as in UploadRequest. A file above MaxPut gets no link: it goes in
	// parts.
	Sealed bool `json:"sealed,omitempty"`
}

// ModelObjects are the files that somebody has laid into the bucket models under base/NAME/;
// URL is a presigned GET. Their hashes are not known.
//
//	GET /v1/models/{name}/objects
type ModelObjects struct {
	Files []Artifact `json:"files"`
}

// The files of a model that is known are a ModelObjects too, with their hashes:
//
//	GET /v1/models/{name}/files

// ModelManifest makes an uploaded base model known. The same name with the same files
// is the same model: a repeat changes nothing.
//
//	PUT /v1/models/{name}
type ModelManifest struct {
	Architecture string      `json:"architecture" example:"LlamaForCausalLM"`
	Parameters   int64       `json:"parameters,omitempty"`
	License      string      `json:"license,omitempty" example:"apache-2.0"`
	Source       string      `json:"source,omitempty" doc:"hf:ORG/NAME@COMMIT or ollama:NAME: where the files came from" example:"hf:org/name@0a1b2c3d"`
	Files        []ModelFile `json:"files"`
	// Replace puts the files in the place of others that have the name. Jobs that run
	// keep the files they began with.
	Replace bool `json:"replace,omitempty" doc:"in the place of a model of that name; needs the role admin"`
}

// ModelSHA256 identifies a base model: the hash of its files' hashes and names in the
// order of the names.
func ModelSHA256(files []ModelFile) string {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b ModelFile) int { return strings.Compare(a.Name, b.Name) })
	sum := sha256.New()
	for _, f := range sorted {
		fmt.Fprintf(sum, "%s %s\n", f.SHA256, f.Name)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
