package state_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The state machine must be a function of state and command, or servers drift
// apart. So this package may not ask for the time, for chance or for its
// surroundings, nor go over a map, whose order is another one each time.
func TestThePackageIsPure(t *testing.T) {
	faults, err := impurities(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

func TestThePurityTestSeesWhatItShould(t *testing.T) {
	dir := t.TempDir()
	source := `package x
import ("time"; "math/rand"; "os")
type Set map[string]int
func f(m Set, g map[int]int) { for range m {}; for k := range g { _ = k }; for range []int{} {} ; go f(m, g) }
var a, b, c = time.Now(), rand.Int(), os.Args
var now = time.Now
`
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	faults, err := impurities(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(faults, "\n")
	for _, want := range []string{"imports math/rand", "imports os", "time.Now", "range over the map m", "range over the map g", "goroutine"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q was not seen in\n%s", want, all)
		}
	}
	if strings.Count(all, "time.Now") != 2 || strings.Count(all, "range over") != 2 {
		t.Errorf("wrong count in\n%s", all)
	}
}

func impurities(dir string) ([]string, error) {
	allowed := []string{"bufio", "bytes", "context", "crypto/sha256", "encoding/binary", "encoding/hex", "encoding/json",
		"errors", "fmt", "io", "slices", "strings", "sync", "time",
		"github.com/hashicorp/go-memdb", "github.com/tunemesh/tunemesh/api"}
	timeFuncs := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	var faults []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); !slices.Contains(allowed, path) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which is not among %v", fset.Position(i.Pos()), path, allowed))
			}
		}
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData)}
	if _, err := config.Check(dir, fset, files, info); err != nil {
		return nil, err
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.RangeStmt:
				if _, ok := info.Types[n.X].Type.Underlying().(*types.Map); ok {
					faults = append(faults, fmt.Sprintf("%s: range over the map %s", fset.Position(n.Pos()), types.ExprString(n.X)))
				}
			case *ast.GoStmt:
				faults = append(faults, fmt.Sprintf("%s: a goroutine", fset.Position(n.Pos())))
			case *ast.Ident:
				if o := info.Uses[n]; o != nil && o.Pkg() != nil && o.Pkg().Path() == "time" && slices.Contains(timeFuncs, o.Name()) {
					if fn, ok := o.(*types.Func); ok && fn.Signature().Recv() == nil {
						faults = append(faults, fmt.Sprintf("%s: time.%s", fset.Position(n.Pos()), o.Name()))
					}
				}
			}
			return true
		})
	}
	return faults, nil
}

// exportData finds a package's compiled types through the go command.
func exportData(path string) (io.ReadCloser, error) {
	out, err := exec.Command("go", "list", "-export", "-f", "{{.Export}}", path).Output()
	if err != nil {
		return nil, fmt.Errorf("go list -export %s: %w", path, err)
	}
	return os.Open(strings.TrimSpace(string(out)))
}
