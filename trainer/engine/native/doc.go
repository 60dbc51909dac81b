// Package native is the engine in the binary: trainer/model's hand-written
// passes, trainer/optim's AdamW, on the CPU. The same input gives the same bits
// on the same machine, whatever interrupts it in between.
package native
