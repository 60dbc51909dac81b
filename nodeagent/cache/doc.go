// Package cache keeps the inputs of stages by their SHA-256 and fetches what is
// missing over plain HTTP, continuing where a transfer broke.
//
// It must not know of jobs, stages or the object store: it sees links, sizes
// and hashes.
package cache
