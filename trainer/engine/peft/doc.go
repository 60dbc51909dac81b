// Package peft is the engine that trains with PyTorch, Transformers and PEFT, on
// CUDA, ROCm, MPS or the CPU.
//
// The Python side (folder python, embedded) computes and saves, and is told what
// by requests over a local socket; what a training consists of is decided in
// trainer/training, as for every engine. The environment it runs in is made by
// the package install below this one. The package does not know how jobs are
// placed, and fetches nothing.
package peft
