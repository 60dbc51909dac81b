// Package artifacts is the control plane's side of the object store: the key
// layout, presigned URLs, uploads that leave nothing behind when they fail, the
// check that a reported artifact exists, and the embedded S3 server, which runs
// in a child process of this binary.
//
// It is the only importer of minio-go and versitygw. It knows keys and bytes,
// and nothing of Raft, HTTP routes or who may do what: what exists is decided
// by the manifest in the replicated state, never by a LIST here.
package artifacts
