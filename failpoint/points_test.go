package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/failpoint"
)

// declared are the constants of points.go by name, and what they are.
func declared(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "points.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			out[spec.Names[0].Name] = strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)
		}
		return true
	})
	return out
}

func TestAllListsEachPointOnce(t *testing.T) {
	listed := map[failpoint.Point]bool{}
	for _, p := range failpoint.All() {
		if listed[p] {
			t.Errorf("%s is listed twice", p)
		}
		listed[p] = true
	}
	for name, p := range declared(t) {
		if !listed[failpoint.Point(p)] {
			t.Errorf("%s (%s) is not listed: nothing would test it", name, p)
		}
	}
	if len(declared(t)) != len(listed) {
		t.Errorf("%d points are declared, %d are listed", len(declared(t)), len(listed))
	}
}

// An order is for one place; were a point at two, the one that a test reaches
// first would hide the other.
func TestEachPointIsAtOnePlace(t *testing.T) {
	places := map[string]int{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "failpoint") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			at, isAt := call.Fun.(*ast.SelectorExpr)
			point, isPoint := call.Args[0].(*ast.SelectorExpr)
			if isAt && isPoint && at.Sel.Name == "At" {
				if pkg, ok := at.X.(*ast.Ident); ok && pkg.Name == "failpoint" {
					places[point.Sel.Name]++
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range declared(t) {
		if places[name] != 1 {
			t.Errorf("%s is at %d places, want 1", name, places[name])
		}
	}
}
