//go:build !linux

package spool

import (
	"errors"
	"os"
)

// errNoHoles: this system cannot give back a file's beginning.
var errNoHoles = errors.New("this system cannot free the beginning of a file")

func punch(*os.File, int64) error { return errNoHoles }
