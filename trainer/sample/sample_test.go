package sample_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/sample"
)

func anySample(t *rapid.T) sample.Sample {
	tokens := rapid.SliceOfN(rapid.Int32Min(0), 1, 40).Draw(t, "tokens")
	from := rapid.IntRange(0, len(tokens)).Draw(t, "from")
	return sample.Sample{
		Row:    rapid.Int64Range(1, 1<<50).Draw(t, "row"),
		Input:  rapid.String().Draw(t, "input"),
		Target: rapid.StringMatching(`[a-z"\\\x00-\x1f<>&ü😀]*`).Draw(t, "target"),
		Tokens: tokens, Loss: [][2]int{{from, len(tokens)}}, PromptTokens: from,
	}
}

func TestASampleIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(anySample), 1, 5).Draw(t, "samples")
		var buf bytes.Buffer
		w := sample.NewWriter(&buf)
		for i := range want {
			if err := w.Write(&want[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(buf.Bytes(), []byte("\n")), []byte("\n")) {
			var s sample.Sample
			if err := json.Unmarshal(line, &s); err != nil {
				t.Fatalf("encoding/json cannot read line %q: %v", line, err)
			}
			if !reflect.DeepEqual(s, want[i]) {
				t.Fatalf("encoding/json reads\n%+v, want\n%+v", s, want[i])
			}
		}
		r := sample.NewReader(&buf)
		for i := range want {
			var got sample.Sample
			if err := r.Next(&got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("read\n%+v, want\n%+v", got, want[i])
			}
		}
		if err := r.Next(new(sample.Sample)); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last: %v", err)
		}
	})
}

func TestReaderAcceptsOtherPeoplesJSONAndNamesTheBadLine(t *testing.T) {
	in := "{\"tokens\": [1, 2, 3], \"loss\": [[1,3]], \"prompt_tokens\": 1, \"row\": 7}\r\n\n{\"row\":1,\"tokens\":[1],\"loss\":[[0,2]]}\n"
	r := sample.NewReader(strings.NewReader(in))
	var s sample.Sample
	if err := r.Next(&s); err != nil || s.Row != 7 || s.LossTokens() != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := r.Next(&s); err == nil || !strings.Contains(err.Error(), "line 3") || !strings.Contains(err.Error(), "row 1") {
		t.Fatalf("a range beyond the tokens: %v", err)
	}
}

func TestReadFileReadsLinesLongerThanTheBuffer(t *testing.T) {
	long := sample.Sample{Row: 2, Input: strings.Repeat("ä", 100_000), Tokens: []int32{1}, Loss: [][2]int{{0, 1}}}
	path := filepath.Join(t.TempDir(), sample.TrainFile)
	if err := os.WriteFile(path, sample.Append(sample.Append(nil, &long), &long), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := sample.ReadFile(path, 0)
	if err != nil || len(all) != 2 || all[1].Input != long.Input {
		t.Fatalf("%d samples, %v", len(all), err)
	}
	if one, err := sample.ReadFile(path, 1); err != nil || len(one) != 1 {
		t.Fatalf("with a limit: %d samples, %v", len(one), err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(sample.Append(nil, &sample.Sample{Row: 2, Input: "a\n\"b\"", Target: "ü", Tokens: []int32{1, 2}, Loss: [][2]int{{1, 2}}, PromptTokens: 1}))
	f.Add([]byte(`{"row":01,"input":"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := sample.NewReader(bytes.NewReader(data))
		for {
			var s sample.Sample
			if err := r.Next(&s); err != nil {
				return
			}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s := sample.Sample{Row: 123456, Input: strings.Repeat("where is my order? ", 8), Target: "shipping", Tokens: make([]int32, 80), Loss: [][2]int{{70, 80}}, PromptTokens: 70}
	for i := range s.Tokens {
		s.Tokens[i] = int32(i * 47)
	}
	var line []byte
	for b.Loop() {
		line = sample.Append(line[:0], &s)
	}
	b.SetBytes(int64(len(line)))
}

func BenchmarkReader(b *testing.B) {
	s := sample.Sample{Row: 123456, Input: strings.Repeat("where is my order? ", 8), Target: "shipping", Tokens: make([]int32, 80), Loss: [][2]int{{70, 80}}, PromptTokens: 70}
	data := bytes.Repeat(sample.Append(nil, &s), 1000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r := sample.NewReader(bytes.NewReader(data))
		for r.Next(&s) == nil {
		}
	}
}
