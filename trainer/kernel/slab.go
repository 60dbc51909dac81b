package kernel

import "unsafe"

const (
	hugePage  = 2 << 20
	slabChunk = 32 << 20
)

// Slab is memory for matrices that live and die together, in huge pages where the
// system has them: generation reads all of it for every token, and from small pages
// that takes half as long again or more. The zero value is ready. It is for one
// goroutine.
type Slab struct{ free []byte }

// Quantized is NewQuantized with its memory in the slab.
func (s *Slab) Quantized(bits, rows, cols int) *Quantized {
	q := newQuantized(bits, rows, cols)
	codes, scales := q.sizes()
	q.codes = s.take(codes)
	if scales > 0 {
		q.scales = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(s.take(4*scales)))), scales)
	}
	return q
}

// take gives n bytes of zeros at an address that a cache line begins with. What is left
// of a chunk too small for them is given up; it was never touched.
func (s *Slab) take(n int) []byte {
	const line = 64
	size := (n + line - 1) / line * line
	if size > len(s.free) {
		size := max(size, slabChunk)
		b := make([]byte, size+hugePage)
		from := -uintptr(unsafe.Pointer(&b[0])) & (hugePage - 1)
		s.free = b[from : from+uintptr(size)]
		adviseHuge(s.free[:size/hugePage*hugePage])
	}
	b := s.free[:n:n]
	s.free = s.free[size:]
	return b
}
