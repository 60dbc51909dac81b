//go:build !linux

package spool

import "errors"

// Watch tells when a file grows; not on this system.
type Watch struct{}

// NewWatch returns an error: the caller must look for itself.
func NewWatch(string) (*Watch, error) { return nil, errors.New("spool: this system has no inotify") }

// Grew is nil.
func (w *Watch) Grew() <-chan struct{} { return nil }

// Close does nothing.
func (w *Watch) Close() error { return nil }
