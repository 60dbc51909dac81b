//go:build unix

package weights

import "golang.org/x/sys/unix"

// dropPages tells the system that mapped bytes, from and to whole pages, are not
// needed for now. They come back from the file when they are read.
func dropPages(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) } // advice: without it, more memory is held
