package capability

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/tunemesh/tunemesh/api"
)

// Digest names what a machine can do: 64 hex digits of the SHA-256 of the
// document without what changes every second.
func Digest(c api.Capability) string {
	c.DiskBytes = 0
	c.GPUs = slices.Clone(c.GPUs)
	for i := range c.GPUs {
		c.GPUs[i].MemoryFreeBytes = 0
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "" // the document holds strings and numbers only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
