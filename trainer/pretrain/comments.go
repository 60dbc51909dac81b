package pretrain

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// GoComments returns the prose of the comments in the Go files below root
// (GOROOT/src), one document per comment, in the order of the paths. It leaves
// out licence headers, code blocks, generated files, test data and vendored
// packages, which have other licences. Go's own sources are BSD-3-Clause.
func GoComments(root string) ([]string, error) {
	var docs []string
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "vendor"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, doc := range fileComments(path, src) {
			if !seen[doc] {
				seen[doc] = true
				docs = append(docs, doc)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pretrain: read Go's comments: %w", err)
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("pretrain: no Go comments below %s: is it the src folder of a Go release?", root)
	}
	return docs, nil
}

// fileComments returns the prose of one file's comments; a file that does not
// parse has none.
func fileComments(path string, src []byte) []string {
	head := src[:min(len(src), 2048)]
	if strings.Contains(string(head), "Code generated") {
		return nil
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	var docs []string
	for _, group := range f.Comments {
		text := group.Text()
		if strings.Contains(text, "Copyright") || strings.Contains(text, "license") {
			continue
		}
		if doc := prose(text); doc != "" {
			docs = append(docs, doc)
		}
	}
	return docs
}

// prose unwraps the paragraphs of a comment and keeps those that read as
// sentences: code, tables and lists of symbols teach a small model nothing.
func prose(text string) string {
	var paragraphs []string
	for block := range strings.SplitSeq(text, "\n\n") {
		var words []string
		for line := range strings.Lines(block) {
			if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
				words = nil
				break
			}
			words = append(words, strings.Fields(line)...)
		}
		p := strings.Join(words, " ")
		if len(words) >= 8 && readable(p) {
			paragraphs = append(paragraphs, p)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// readable says whether a paragraph starts as a sentence and is mostly letters.
func readable(p string) bool {
	letters, all := 0, 0
	for i, r := range p {
		if i == 0 && !unicode.IsUpper(r) {
			return false
		}
		all++
		if unicode.IsLetter(r) || r == ' ' {
			letters++
		}
	}
	return letters*100 >= all*90
}
