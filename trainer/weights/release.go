package weights

import (
	"os"
	"unsafe"
)

// Release gives the memory of one tensor's pages back; its bytes stay valid and are
// read from the file again when they are touched. A pass over a file that is larger
// than the memory, or should not push everything else out of it, releases what it is
// done with.
func (f *File) Release(name string) {
	e, ok := f.byName[name]
	if !ok || len(e.data) == 0 {
		return
	}
	for _, s := range f.shards {
		start := uintptr(unsafe.Pointer(&s.image[0]))
		at := uintptr(unsafe.Pointer(&e.data[0]))
		if at < start || at >= start+uintptr(len(s.image)) {
			continue
		}
		page := uintptr(os.Getpagesize())
		// A page that a neighbour shares goes too: it is read again as well.
		from := (at - start) / page * page
		to := min((at-start+uintptr(len(e.data))+page-1)/page*page, uintptr(len(s.image)))
		dropPages(s.image[from:to])
		return
	}
}
