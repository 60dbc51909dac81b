package tokenizer_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// BenchmarkFiles encodes documents with whole vocabularies: TUNEMESH_DOCS is a JSONL file of
// texts, TUNEMESH_TOKENIZERS a glob of tokenizer.json files. docs/benchmarks.md has the
// figures beside those of the original.
func BenchmarkFiles(b *testing.B) {
	path := os.Getenv("TUNEMESH_DOCS")
	if path == "" {
		b.Skip("TUNEMESH_DOCS names no documents")
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var docs []string
	size := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var doc string
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			b.Fatal(err)
		}
		docs = append(docs, doc)
		size += len(doc)
	}
	files, err := filepath.Glob(os.Getenv("TUNEMESH_TOKENIZERS"))
	if err != nil || len(files) == 0 {
		b.Fatalf("no tokenizers: %v", err)
	}
	for _, file := range files {
		tok, err := tokenizer.Load(file)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Base(filepath.Dir(filepath.Dir(file))), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			tokens := 0
			var ids []int32
			for b.Loop() {
				tokens = 0
				for _, doc := range docs {
					ids = tok.AppendEncode(ids[:0], doc, false)
					tokens += len(ids)
				}
			}
			b.ReportMetric(float64(tokens), "tokens")
		})
	}
}
