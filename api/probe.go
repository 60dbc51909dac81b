package api

import "time"

// StoreProbe is what a machine tries its way to the object store with: links for
// one small object that nobody else uses. Who asked for it writes the object,
// reads it back and deletes it.
//
//	POST /v1/doctor/probe
type StoreProbe struct {
	ID     string `json:"id" example:"01JDCK3V5W8M2N4P6Q7R8S9T0V"`
	Bucket string `json:"bucket" example:"artifacts"`
	Key    string `json:"key" example:"scratch/doctor/01JDCK3V5W8M2N4P6Q7R8S9T0V"`
	// PutURL, GetURL and DeleteURL are presigned.
	PutURL    string `json:"put_url"`
	GetURL    string `json:"get_url"`
	DeleteURL string `json:"delete_url"`
	// ExpiresAt is when the links end; an object that is left is deleted later.
	ExpiresAt time.Time `json:"expires_at"`
	// MaxBytes is how much should be written at most.
	MaxBytes int64 `json:"max_bytes"`
	// Time is the server's clock when it answered, exact where a Date header has
	// whole seconds.
	Time time.Time `json:"time"`
}
