package events

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzSegment: whatever lies in a segment's file, reading it does not panic,
// and what it accepts is a prefix that reads the same again.
func FuzzSegment(f *testing.F) {
	head := appendLine(nil, headerSource, 1, []byte(`{"version":1,"sources":{}}`))
	one := appendLine(bytes.Clone(head), "a1", 1, []byte(`{"seq":1}`))
	two := appendLine(bytes.Clone(one), "state", 1, []byte(`{"seq":2}`))
	f.Add(head)
	f.Add(two)
	f.Add(two[:len(two)-1])
	f.Add(append(bytes.Clone(one), one[len(head):]...)) // a repeated line
	f.Add(append(bytes.Clone(one), 0, 0, 0, 0))
	f.Add([]byte("00000000 # 1 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSegment(data)
		if err != nil {
			return
		}
		if s.good > int64(len(data)) || data[s.good-1] != '\n' {
			t.Fatalf("%d of %d bytes are good", s.good, len(data))
		}
		again, err := parseSegment(data[:s.good])
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("read again it is %+v, %v", again, err)
		}
		for i, r := range s.records {
			line := appendLine(nil, r.source, r.number, r.json)
			got, ok := parseLine(line[:len(line)-1])
			if !ok || got.source != r.source || got.number != r.number || !bytes.Equal(got.json, r.json) {
				t.Fatalf("record %d written again is %+v", i, got)
			}
		}
	})
}
