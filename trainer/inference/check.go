package inference

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

const (
	maxRequest = 4 << 20 // bytes
	maxStops   = 16
)

// Check says what is wrong with a request whatever the model is, or nil. The
// error is a contract.FieldError that names the field as inference.proto does.
// The server asks it of every request, and the client before it sends one.
func Check(in *inferencepb.GenerateRequest) error {
	wrong := func(field, format string, args ...any) error {
		return contract.FieldError{Field: field, Message: fmt.Sprintf(format, args...)}
	}
	t, p := float64(in.GetTemperature()), float64(in.GetTopP())
	switch {
	case in.GetPrompt() != "" && len(in.GetMessages()) > 0:
		return wrong("prompt", "and messages are given: want one of them")
	case in.GetMaxTokens() < 0:
		return wrong("max_tokens", "is %d, want 0 (for %d) or more", in.GetMaxTokens(), defaultTokens)
	case !(t >= 0 && t <= 100):
		return wrong("temperature", "is %v, want 0 to 100", t)
	case in.GetTopK() < 0:
		return wrong("top_k", "is %d, want 0 (for all) or more", in.GetTopK())
	case !(p >= 0 && p <= 1):
		return wrong("top_p", "is %v, want 0 to 1", p)
	case len(in.GetStop()) > maxStops:
		return wrong("stop", "has %d strings, at most %d are taken", len(in.GetStop()), maxStops)
	}
	if at, ok := firstInvalid(in.GetPrompt()); !ok {
		return wrong("prompt", notUTF8, at)
	}
	for _, m := range in.GetMessages() {
		if at, ok := firstInvalid(m.GetContent()); !ok {
			return wrong("messages", notUTF8, at)
		}
		if !utf8.ValidString(m.GetRole()) {
			return wrong("messages", "have the role %q, which is not valid UTF-8", m.GetRole())
		}
	}
	for _, stop := range in.GetStop() {
		if stop == "" {
			return wrong("stop", "has an empty string")
		}
		if at, ok := firstInvalid(stop); !ok {
			return wrong("stop", notUTF8, at)
		}
	}
	if size := proto.Size(in); size > maxRequest {
		return wrong("prompt", "is too long: the request has %d bytes, at most %d are taken", size, maxRequest)
	}
	return nil
}

const notUTF8 = "has bytes that are not UTF-8, the first after %d that are"

// firstInvalid says how many bytes of a text come before the first that is not
// UTF-8.
func firstInvalid(s string) (at int, ok bool) {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i, false
			}
		}
	}
	return 0, true
}
