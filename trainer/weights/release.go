package weights

import (
	"os"
	"unsafe"
)

// around is a huge page.
const around = 2 << 20

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
		// The system maps up to a huge page around each one that is touched, also of a
		// neighbour that was released before: these go too, and come back if needed.
		from := (at - start - min(at-start, around)) / page * page
		to := min(at-start+uintptr(len(e.data))+around, uintptr(len(s.image)))
		dropPages(s.image[from:to])
		return
	}
}
