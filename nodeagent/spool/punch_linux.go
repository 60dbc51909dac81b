package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// punch frees the blocks before an offset; the file's size and all offsets stay
// (fallocate(2), FALLOC_FL_PUNCH_HOLE).
func punch(f *os.File, upto int64) error {
	upto &^= 4095
	if upto <= 0 {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, upto)
}
