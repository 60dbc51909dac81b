// Package capability finds out what this machine can do: processor, memory,
// disk, accelerators, and which engines it can run. What is missing is normal
// and silent; what is there but broken is said in words.
//
// It must not know of jobs or the control plane: it looks and tells.
package capability
