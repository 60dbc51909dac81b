package events

import (
	"errors"

	"github.com/tunemesh/tunemesh/api"
)

// What a Log that keeps its events elsewhere shares with Disk.

// ErrAway: the store behind the log does not answer. What was to be appended may
// or may not be stored: send it again, from the number that Next tells.
var ErrAway = errors.New("the event store does not answer")

// MaxRead bounds the bytes of JSON that one Read returns.
const MaxRead = maxRead

// CheckNames refuses job ids and sources that a log does not take.
func CheckNames(job, source string) error { return checkNames(job, source) }

// Encode returns an event's JSON, at most MaxEvent bytes: what does not fit or
// cannot be encoded is left out, and the field "cut" says why.
func Encode(e api.Event) ([]byte, error) {
	data, _, err := encodeEvent(e)
	return data, err
}
