package client

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzSSE: no stream makes the parser panic, deliver a field that was not there,
// or hold more than its limit.
func FuzzSSE(f *testing.F) {
	f.Add([]byte("id: 1\ndata: {}\n\n"))
	f.Add([]byte(":\n\nevent: end\ndata\n\n\n\ndata:\r\n\r\n"))
	f.Add([]byte("data: a\ndata: b\nretry: 5\n\ndata"))
	f.Fuzz(func(t *testing.T, in []byte) {
		stop := errors.New("stop")
		n := 0
		err := readSSE(bytes.NewReader(in), func() {}, func(id, kind string, data []byte) error {
			if n++; n > 1000 {
				return stop
			}
			if len(data) > len(in) || !bytes.Contains(in, []byte(kind)) || !bytes.Contains(in, []byte(id)) {
				t.Errorf("delivered %q %q", kind, data)
			}
			return nil
		})
		if n > 1000 && !errors.Is(err, stop) {
			t.Errorf("after stop: %v", err)
		}
	})
}
