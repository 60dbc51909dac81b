package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
)

// maxHeaderBytes is the reference implementation's own limit
// (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
const maxHeaderBytes = 100_000_000

const metadataKey = "__metadata__"

type headerTensor struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// parse checks a whole safetensors image and gives its entries in the order of
// their data, each a slice of image. As in the reference implementation the data
// have to be covered exactly, with neither holes nor overlaps: a hole could carry
// a second file, an overlap would tie two tensors together.
func parse(image []byte) ([]entry, map[string]string, error) {
	if len(image) < 8 {
		return nil, nil, fmt.Errorf("file of %d bytes is too short for a header", len(image))
	}
	n := binary.LittleEndian.Uint64(image)
	if n > maxHeaderBytes {
		return nil, nil, fmt.Errorf("header of %d bytes is larger than %d: no safetensors file", n, maxHeaderBytes)
	}
	if n > uint64(len(image)-8) {
		return nil, nil, fmt.Errorf("header of %d bytes does not fit in a file of %d: truncated", n, len(image))
	}
	tensors, metadata, err := decodeHeader(image[8 : 8+n])
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	data := image[8+n:]

	sort.Slice(tensors, func(i, j int) bool {
		a, b := tensors[i], tensors[j]
		if a.Offsets != b.Offsets {
			if a.Offsets[0] != b.Offsets[0] {
				return a.Offsets[0] < b.Offsets[0]
			}
			return a.Offsets[1] < b.Offsets[1]
		}
		return a.name < b.name
	})
	entries := make([]entry, 0, len(tensors))
	at := int64(0)
	for _, t := range tensors {
		info := TensorInfo{Name: t.name, DType: t.DType, Shape: t.Shape}
		size, err := info.Bytes()
		if err != nil {
			return nil, nil, err
		}
		begin, end := t.Offsets[0], t.Offsets[1]
		switch {
		case begin < 0 || end < begin || end > int64(len(data)):
			return nil, nil, fmt.Errorf("tensor %q: data offsets [%d, %d] lie outside the %d bytes of data: truncated", t.name, begin, end, len(data))
		case begin < at:
			return nil, nil, fmt.Errorf("tensor %q: data at %d overlap the tensor before, which ends at %d", t.name, begin, at)
		case begin > at:
			return nil, nil, fmt.Errorf("tensor %q: hole in the data from %d to %d", t.name, at, begin)
		case end-begin != size:
			return nil, nil, fmt.Errorf("tensor %q: %d bytes of data, but %s %v takes %d", t.name, end-begin, t.DType, t.Shape, size)
		}
		entries = append(entries, entry{info: info, data: data[begin:end:end]})
		at = end
	}
	if at != int64(len(data)) {
		return nil, nil, fmt.Errorf("%d bytes follow the last tensor", int64(len(data))-at)
	}
	return entries, metadata, nil
}

type namedTensor struct {
	name string
	headerTensor
}

// decodeHeader walks the JSON object by tokens, because encoding/json would take
// the last of two equal keys without a word.
func decodeHeader(raw []byte) ([]namedTensor, map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	tok, err := dec.Token()
	if err != nil {
		return nil, nil, err
	}
	if tok != json.Delim('{') {
		return nil, nil, errors.New("not a JSON object")
	}
	var tensors []namedTensor
	var metadata map[string]string
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		name := tok.(string) // a key of an object is always a string
		if seen[name] {
			return nil, nil, fmt.Errorf("name %q occurs twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			if err := dec.Decode(&metadata); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		var t struct {
			DType   *string          `json:"dtype"`
			Shape   *[]int           `json:"shape"`
			Offsets *json.RawMessage `json:"data_offsets"`
		}
		if err := dec.Decode(&t); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		if t.DType == nil || t.Shape == nil || t.Offsets == nil {
			return nil, nil, fmt.Errorf("tensor %q: dtype, shape or data_offsets is missing", name)
		}
		var off []int64 // not [2]int64: that would accept any length
		if err := json.Unmarshal(*t.Offsets, &off); err != nil || len(off) != 2 {
			return nil, nil, fmt.Errorf("tensor %q: data_offsets %.60s are not two numbers", name, *t.Offsets)
		}
		tensors = append(tensors, namedTensor{name, headerTensor{*t.DType, *t.Shape, [2]int64{off[0], off[1]}}})
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, errors.New("something follows the JSON object")
	}
	return tensors, metadata, nil
}

// encodeHeader lays the tensors out in the given order and gives the length field
// and the header, padded with spaces so that the data begin at a multiple of 8.
func encodeHeader(tensors []TensorInfo, metadata map[string]string) (head []byte, sizes []int64, err error) {
	var b bytes.Buffer
	b.WriteByte('{')
	put := func(key string, value any) error {
		k, err := json.Marshal(key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
		return nil
	}
	if len(metadata) > 0 {
		if err := put(metadataKey, metadata); err != nil {
			return nil, nil, err
		}
	}
	seen := map[string]bool{metadataKey: true}
	at := int64(0)
	for _, t := range tensors {
		if seen[t.Name] {
			return nil, nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		seen[t.Name] = true
		size, err := t.Bytes()
		if err != nil {
			return nil, nil, err
		}
		if size > math.MaxInt64-at {
			return nil, nil, fmt.Errorf("tensor %q: the file would be too large", t.Name)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{} // a scalar is [], never null
		}
		if err := put(t.Name, headerTensor{t.DType, shape, [2]int64{at, at + size}}); err != nil {
			return nil, nil, err
		}
		sizes = append(sizes, size)
		at += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeaderBytes {
		return nil, nil, fmt.Errorf("header of %d bytes is larger than %d", b.Len(), maxHeaderBytes)
	}
	head = binary.LittleEndian.AppendUint64(nil, uint64(b.Len()))
	return append(head, b.Bytes()...), sizes, nil
}
