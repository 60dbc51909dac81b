// Package invariant judges what a mesh under faults has answered and left
// behind: whether histories of operations are linearizable, whether at most one
// attempt of a stage was accepted, whether readers of events got each once. It
// knows the API's words and nothing of how the mesh was broken, so that whole
// machines (test/chaos) and simulated time (test/simulation) are held to the same.
package invariant
