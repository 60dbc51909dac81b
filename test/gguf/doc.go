// Package judge asks llama.cpp, through node-llama-cpp, what it makes of a GGUF file
// of ours: whether it loads, which ids it gives a text, which logits at every
// position, with and without a LoRA adapter. It is a witness from outside: nothing
// in it is computed by our code.
//
// It needs node 20 or newer and TUNEMESH_GGUF=1. The module is kept in
// .cache/node-llama-cpp at the repository's root (85 MB); npm installs it there when
// it is first asked for.
package judge
