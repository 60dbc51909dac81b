package api

// Limits of S3's multipart uploads (Amazon S3 user guide, "Amazon S3 multipart
// upload limits").
const (
	// MaxPut is the largest object of one PUT, and the largest part.
	MaxPut = 5 << 30
	// MaxObject is the largest object at all.
	MaxObject = 5 << 40
	// MaxParts is how many parts an object may have; MinPart the least size of
	// any but the last.
	MaxParts = 10_000
	MinPart  = 5 << 20
	// MaxPartLinks is how many links one request may ask for.
	MaxPartLinks = 100
)

// MultipartStep says what a request about an upload in parts asks for: the rest
// of its path.
type MultipartStep string

// The steps of an upload in parts.
const (
	MultipartBegin    MultipartStep = "multipart"
	MultipartLinks    MultipartStep = "multipart/links"
	MultipartComplete MultipartStep = "multipart/complete"
	MultipartAbort    MultipartStep = "multipart/abort"
)

// MultipartRequest begins the upload of an attempt's file in parts, or goes on
// with it.
//
//	POST /v1/attempts/{fence}/multipart
//	POST /v1/attempts/{fence}/multipart/links
//	POST /v1/attempts/{fence}/multipart/complete
//	POST /v1/attempts/{fence}/multipart/abort
type MultipartRequest struct {
	File UploadFile `json:"file"`
	// Checkpoint is set when the file is a checkpoint's.
	Checkpoint string `json:"checkpoint,omitempty"`
	// UploadID is that of an upload that was begun earlier. One that the store
	// does not know any more is begun anew.
	UploadID string `json:"upload_id,omitempty"`
	// Parts are those to have links for.
	Parts []UploadPart `json:"parts,omitempty"`
}

// ModelMultipart is MultipartRequest for a file of a base model.
//
//	POST /v1/models/{name}/multipart
//	POST /v1/models/{name}/multipart/links
//	POST /v1/models/{name}/multipart/complete
//	POST /v1/models/{name}/multipart/abort
type ModelMultipart struct {
	// Files are all of the model's: together they say where it lies. File is the
	// name of the one that is sent.
	Files    []ModelFile  `json:"files"`
	File     string       `json:"file"`
	UploadID string       `json:"upload_id,omitempty"`
	Parts    []UploadPart `json:"parts,omitempty"`
}

// UploadPart is one part of a file; all but the last have the same size.
type UploadPart struct {
	Number int    `json:"number" doc:"from 1"`
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256"`
	URL    string `json:"url,omitempty" doc:"presigned PUT, bound to the hash"`
}

// Multipart answers a MultipartRequest.
type Multipart struct {
	// File says where the file lies, or will.
	File     Artifact `json:"file"`
	UploadID string   `json:"upload_id,omitempty"`
	// Done: the file is stored; there is nothing to send.
	Done bool `json:"done,omitempty"`
	// Parts are those that the store holds, or, where links were asked for, these.
	Parts []UploadPart `json:"parts,omitempty"`
}
