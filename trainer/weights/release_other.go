//go:build !unix

package weights

// dropPages does nothing where files are not mapped.
func dropPages([]byte) {}
