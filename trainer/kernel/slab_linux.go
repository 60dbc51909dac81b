package kernel

import "golang.org/x/sys/unix"

// adviseHuge asks for huge pages. It is advice: without them everything works.
func adviseHuge(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
