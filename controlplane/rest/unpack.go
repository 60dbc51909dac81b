package rest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"
)

// encodingError: a body is packed in a way that this server does not know.
type encodingError struct{ name string }

func (e *encodingError) Error() string {
	return fmt.Sprintf("its encoding is %q: use zstd, gzip or none", e.name)
}

// unpacker unpacks bodies.
type unpacker struct{ zstd *zstd.Decoder }

// newUnpacker returns one that gives no body more than limit bytes of memory.
func newUnpacker(limit int64) (unpacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return unpacker{}, fmt.Errorf("rest: zstd: %w", err)
	}
	return unpacker{dec}, nil
}

// unpack returns a packed body's bytes (RFC 9110, 8.4), at most limit of them;
// more is an *http.MaxBytesError, as for a body that is not packed. A few bytes
// must not make the server hold gigabytes.
func (u unpacker) unpack(data []byte, encoding string, limit int64) (out []byte, err error) {
	switch encoding {
	case "identity":
		return data, nil
	case "gzip":
		var zip *gzip.Reader
		if zip, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			out, err = io.ReadAll(io.LimitReader(zip, limit+1))
		}
	case "zstd":
		out, err = u.zstd.DecodeAll(data, nil)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return nil, &http.MaxBytesError{Limit: limit}
		}
	default:
		return nil, &encodingError{encoding}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", encoding, err)
	case int64(len(out)) > limit:
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return out, nil
}
