// Package spool reads what a stage has printed as numbered lines and turns each
// into an event. The file that the stage appends to is the spool itself: a
// line's number in it is its source sequence number, so that any reader, at any
// time, numbers the lines alike.
//
// It must not know how events are shipped, nor of the control plane.
package spool
