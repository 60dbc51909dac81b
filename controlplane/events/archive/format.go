package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// frameBytes is how many bytes of lines a frame holds, more or less: what one
	// read in the middle costs.
	frameBytes = 1 << 20
	// skippable is the first of the magic numbers of skippable frames.
	skippable   = 0x184D2A5E
	trailerSize = 8
	trailerMark = "TMEI"
	// maxIndex bounds an index that is read.
	maxIndex = 64 << 20
)

// frame is a frame's place in a part.
type frame struct {
	First  uint64 `json:"first"` // number of its first event
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

type index struct {
	Version int     `json:"version"`
	Frames  []frame `json:"frames"`
}

// writer writes a part; it holds one frame in memory.
type writer struct {
	out    io.Writer
	sum    hash.Hash
	enc    *zstd.Encoder
	lines  bytes.Buffer
	first  uint64 // of lines
	packed []byte
	index  index
	size   int64
}

func newWriter(out io.Writer) (*writer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("events/archive: %w", err)
	}
	w := &writer{sum: sha256.New(), enc: enc, index: index{Version: 1, Frames: []frame{}}}
	w.out = io.MultiWriter(out, w.sum)
	return w, nil
}

// add writes an event's JSON.
func (w *writer) add(seq uint64, line []byte) error {
	if w.lines.Len() == 0 {
		w.first = seq
	}
	w.lines.Write(line)
	w.lines.WriteByte('\n')
	if w.lines.Len() >= frameBytes {
		return w.flush()
	}
	return nil
}

func (w *writer) flush() error {
	if w.lines.Len() == 0 {
		return nil
	}
	w.packed = w.enc.EncodeAll(w.lines.Bytes(), w.packed[:0])
	w.index.Frames = append(w.index.Frames, frame{First: w.first, Offset: w.size, Size: int64(len(w.packed))})
	w.lines.Reset()
	return w.write(w.packed)
}

func (w *writer) write(p []byte) error {
	n, err := w.out.Write(p)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("events/archive: write: %w", err)
	}
	return nil
}

// close writes what is left and the index.
func (w *writer) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	data, err := json.Marshal(w.index)
	if err != nil {
		return fmt.Errorf("events/archive: index: %w", err)
	}
	end := binary.LittleEndian.AppendUint32(nil, skippable)
	end = binary.LittleEndian.AppendUint32(end, uint32(len(data)+trailerSize))
	end = append(end, data...)
	end = binary.LittleEndian.AppendUint32(end, uint32(len(data)))
	return errors.Join(w.write(append(end, trailerMark...)), w.enc.Close())
}

var errDamaged = errors.New("the archive is damaged")

// trailer reads a part's last bytes and returns how long its index is.
func trailer(end []byte) (int64, error) {
	if len(end) < trailerSize || string(end[len(end)-4:]) != trailerMark {
		return 0, fmt.Errorf("%w: it has no index", errDamaged)
	}
	n := binary.LittleEndian.Uint32(end[len(end)-trailerSize:])
	if n > maxIndex {
		return 0, fmt.Errorf("%w: its index has %d bytes", errDamaged, n)
	}
	return int64(n), nil
}

// parseIndex checks that the frames follow each other within size bytes.
func parseIndex(data []byte, size int64) (index, error) {
	var x index
	if err := json.Unmarshal(data, &x); err != nil || x.Version != 1 {
		return x, fmt.Errorf("%w: its index cannot be read", errDamaged)
	}
	at, seq := int64(0), uint64(0)
	for _, f := range x.Frames {
		if f.Offset != at || f.Size <= 0 || f.Size > size-at || f.First <= seq {
			return x, fmt.Errorf("%w: its index has frames out of place", errDamaged)
		}
		at, seq = at+f.Size, f.First
	}
	return x, nil
}

// unpack returns a frame's lines without their ends. An event is at most 256 KiB,
// so a frame is at most a little over a MiB.
func unpack(dec *zstd.Decoder, packed []byte) ([][]byte, error) {
	data, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, fmt.Errorf("%w: a frame does not end with a line", errDamaged)
	}
	return bytes.Split(data[:len(data)-1], []byte("\n")), nil
}
