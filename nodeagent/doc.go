// Package nodeagent is one agent of the mesh: it registers a machine with the
// control plane, keeps its lease, and makes what runs on the machine equal to
// what the control plane wants to run there. It fetches a stage's inputs, has a
// launcher start the stage, ships its events, uploads what it made and reports
// how it ended, and it can be killed at any moment and go on where it was.
//
// It must not know how the control plane stores or decides anything, nor what a
// stage computes: it meets the first in package api and the second in package
// trainer/contract.
package nodeagent
