package archive

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// FuzzPart: whatever a part's bytes are, reading it does not panic and stays
// within it.
func FuzzPart(f *testing.F) {
	var b bytes.Buffer
	w, err := newWriter(&b)
	if err != nil {
		f.Fatal(err)
	}
	for seq := uint64(1); seq < 9; seq++ {
		if err := w.add(seq, []byte(`{"seq":1}`)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		f.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(16<<20))
	if err != nil {
		f.Fatal(err)
	}
	defer dec.Close()
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Add([]byte("\x08\x00\x00\x00TMEI"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := trailer(data)
		if err != nil || n+trailerSize > int64(len(data)) {
			return
		}
		x, err := parseIndex(data[int64(len(data))-trailerSize-n:len(data)-trailerSize], int64(len(data)))
		if err != nil {
			return
		}
		for _, fr := range x.Frames {
			lines, err := unpack(dec, data[fr.Offset:fr.Offset+fr.Size])
			if err == nil && len(lines) == 0 {
				t.Fatal("a frame without lines")
			}
		}
	})
}
