package spool

import (
	"fmt"
	"os"
)

// Size is the file's size.
func (r *Reader) Size() (int64, error) {
	info, err := r.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("spool: %w", err)
	}
	return info.Size(), nil
}

// Live is how many bytes of the file lie behind what was dropped.
func (r *Reader) Live() (int64, error) {
	size, err := r.Size()
	return size - r.base.Offset, err
}

// Over returns where the file must begin so that it has at most keep bytes, at
// the beginning of a line: of one that was read if possible, else it reads on.
// It is the present beginning if the file is small enough.
func (r *Reader) Over(keep int64) (Position, error) {
	live, err := r.Live()
	if err != nil || live <= keep {
		return r.base, err
	}
	want := r.base.Offset + live - keep
	at := r.next // the last place known before, should all known be before
	for i, m := range r.mark {
		if m.Offset >= want {
			return m, nil
		}
		if i == len(r.mark)-1 && m.Offset > at.Offset {
			at = m
		}
	}
	if at.Offset >= want {
		return at, nil
	}
	ahead, err := Open(r.f.Name(), at, r.base)
	if err != nil {
		return r.base, err
	}
	defer ahead.Close()
	for ahead.next.Offset < want {
		if _, ok, err := ahead.Next(false); err != nil || !ok {
			return ahead.next, err
		}
	}
	return ahead.next, nil
}

// Drop gives the file's beginning up to a position back to the disk. The caller
// has written down base first: without it the numbers of all lines would change.
func (r *Reader) Drop(base Position) error {
	if base.Offset <= r.base.Offset {
		return nil
	}
	r.base = base
	for len(r.mark) > 0 && r.mark[0].Offset < base.Offset {
		r.mark = r.mark[1:]
	}
	w, err := os.OpenFile(r.f.Name(), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer w.Close()
	if err := punch(w, base.Offset); err != nil {
		return fmt.Errorf("spool: free %d bytes of %s: %w", base.Offset, r.f.Name(), err)
	}
	return nil
}
