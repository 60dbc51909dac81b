package kernel

// ISA names a set of inner loops.
type ISA int

// The instruction sets there are loops for.
const (
	Pure       ISA = iota // Go, on every architecture
	AVX2                  // amd64 with AVX2 and FMA
	AVX512                // amd64 with AVX-512 F, BW, DQ and VL
	AVX512BF16            // the same with AVX512_BF16, which serves rounded terms
)

func (i ISA) String() string {
	return [...]string{"pure-go", "avx2", "avx512", "avx512-bf16"}[i]
}

// Engine runs kernels with one set of inner loops on GOMAXPROCS processors. It
// owns scratch memory per worker, so it is not safe for concurrent use: each
// model has its own. Its goroutines end with the call that started them.
type Engine struct {
	isa     ISA
	tile    tile
	vec     vector
	scratch []scratch
	tasks   []block   // of the last call of Gemm
	rounds  []float32 // the left operands of one call's rounded terms
	left    leftRows  // those of its terms with integers
	team    *team     // nil outside With
}

// scratch is one worker's buffers, grown on demand and kept.
type scratch struct {
	bPack, aPack, edge []float32
	decoded            []float32 // of a quantized operand, what one panel needs
	att                [3][]float32
	_                  [64]byte // keeps neighbours off one cache line
}

// New makes an engine. Asking for an ISA the processor lacks gives the best one
// below it.
func New(isa ISA) *Engine {
	isa = min(isa, Best())
	e := &Engine{isa: isa}
	e.tile, e.vec = loops(isa)
	return e
}

// ISA returns which inner loops the engine runs.
func (e *Engine) ISA() ISA { return e.isa }

// rowsPerTask cuts rows×cols elements into tasks of about 16k elements.
func rowsPerTask(cols int) int { return max(1, 16384/max(1, cols)) }

// Rows calls f for consecutive ranges of rows, in parallel.
func (e *Engine) Rows(rows, cols int, f func(r0, r1 int)) {
	step := rowsPerTask(cols)
	e.Parallel((rows+step-1)/step, func(_, i int) {
		f(i*step, min(rows, (i+1)*step))
	})
}

// grow returns a slice of n values whose contents are undefined, reusing *buf.
func grow(buf *[]float32, n int) []float32 {
	if cap(*buf) < n {
		*buf = make([]float32, n)
	}
	return (*buf)[:n]
}
