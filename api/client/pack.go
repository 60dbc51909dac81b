package client

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// packFrom is from how many bytes on it is worth to compress a body.
const packFrom = 4 << 10

// encoder has no goroutines when it encodes whole buffers, and is safe for
// concurrent use.
var encoder = sync.OnceValue(func() *zstd.Encoder {
	// Without options that can be wrong there is no error.
	e, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	return e
})

// pack compresses a body (zstd, RFC 8878).
func pack(data []byte) []byte { return encoder().EncodeAll(data, make([]byte, 0, len(data)/4)) }
