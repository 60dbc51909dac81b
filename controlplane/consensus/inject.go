//go:build !chaos

package consensus

// injected is what the test build (tag chaos) does before a write to the log.
func injected() func() { return nil }
