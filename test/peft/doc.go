// Package peft runs the engine peft for real: the same job on both engines, a
// checkpoint of one continued by the other, kills, several workers, a whole pipeline.
//
// It needs TUNEMESH_PEFT: the folder in which the engine is installed (what
// tunemesh engine install peft --data-dir DIR made, DIR/engines), or 1 for the folders that every node
// looks into. make test-peft installs one first.
package peft
