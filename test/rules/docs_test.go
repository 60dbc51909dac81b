package rules

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	namedTest   = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*`)
	packageName = regexp.MustCompile("`[a-z][a-z0-9_/]*`")
	definedTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)\(`)
)

// A document that names a test as evidence names one that there is: what was renamed or
// removed is no evidence. In the table of docs/trainer.md it stands behind its package.
func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	defined, named := map[string]string{}, map[string][]string{} // test -> packages, documents
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "node_modules" || name == "bin" || strings.HasPrefix(name, ".") && len(name) > 2):
			return filepath.SkipDir
		case strings.HasSuffix(name, "_test.go"):
			for _, m := range definedTest.FindAllStringSubmatch(read(path), -1) {
				defined[m[1]] += "`" + strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../../") + "`"
			}
		case strings.HasSuffix(name, ".md"):
			for _, test := range namedTest.FindAllString(read(path), -1) {
				named[test] = append(named[test], filepath.ToSlash(path))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(defined) < 500 || len(named) < 20 {
		t.Fatalf("found %d tests and %d names in documents: this test looks in the wrong place", len(defined), len(named))
	}
	for test, documents := range named {
		if defined[test] == "" {
			slices.Sort(documents)
			t.Errorf("%s names %s, which is no test", strings.Join(slices.Compact(documents), ", "), test)
		}
	}
	rows := 0
	for line := range strings.Lines(read("../../docs/trainer.md")) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		for group := range strings.SplitSeq(cells[2], ";") {
			in := packageName.FindString(group)
			for _, test := range namedTest.FindAllString(group, -1) {
				if rows++; !strings.Contains(defined[test], in) || in == "" {
					t.Errorf("docs/trainer.md: %s is not in %s", test, in)
				}
			}
		}
	}
	if rows < 100 {
		t.Errorf("docs/trainer.md names %d tests in its tables", rows)
	}
}
