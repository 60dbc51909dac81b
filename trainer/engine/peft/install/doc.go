// Package install makes the environment of the engine peft: Python packages in
// the versions and with the hashes that are pinned here, in a folder of their own,
// verified by a step of training.
//
// An environment counts only when its manifest is there, which is written last; an
// installation that was interrupted is taken up where it was.
package install
