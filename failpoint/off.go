//go:build !chaos

package failpoint

// At is where a process of the test build may end, fail or wait. Here it is
// compiled to nothing.
func At(Point) error { return nil }

// Environment is what a child process has to be given to obey the same orders:
// nothing.
func Environment() []string { return nil }
