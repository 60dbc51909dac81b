// Package kernel holds the arithmetic of the engine `native`: matrix products
// over float32 and bfloat16 operands, and the elementwise and row-wise
// operations of a decoder (RMSNorm, rotary embedding, SwiGLU, causal attention,
// cross-entropy), each with its backward pass.
//
// It knows slices and strides, not models. Every kernel exists in pure Go; on
// amd64 the inner loops exist in assembly as well (AVX2+FMA and AVX-512, written
// by the generator in asmgen) and are chosen when an Engine is made. Other
// architectures, arm64 among them, run the pure-Go loops for now.
//
// Results do not depend on the number of processors: work is cut into tiles that
// are handed out dynamically, but each output element is computed by one task in
// one fixed order.
package kernel
