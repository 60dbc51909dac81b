//go:build !unix

package weights

import (
	"io"
	"os"
)

// mapFile reads the file where no mapping is at hand: the same bytes, but all of
// them in memory at once.
func mapFile(f *os.File, size int) ([]byte, func() error, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, nil, err
	}
	return b, func() error { return nil }, nil
}
