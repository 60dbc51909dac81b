package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// Importer turns a Hugging Face folder or a GGUF file into the folder outDir, in the
// form in which the mesh keeps base models.
type Importer func(ctx context.Context, source, outDir, dtype string, progress func(done, total int64)) (Imported, error)

// Imported is what an Importer found and made.
type Imported struct {
	Architecture string          `json:"architecture"`
	Parameters   int64           `json:"parameters"`
	DType        string          `json:"dtype"`
	SourceDType  string          `json:"source_dtype"`
	Context      int             `json:"context"`
	Tokenizer    string          `json:"tokenizer"`
	Template     string          `json:"template"`
	License      string          `json:"license,omitempty"`
	Notes        []string        `json:"notes,omitempty"`
	Warnings     []string        `json:"warnings,omitempty"`
	Files        []api.ModelFile `json:"files"`
}

// importFlags are those of `model import`.
type importFlags struct {
	name, dtype, workDir string
	replace, dryRun      bool
}

func (a *app) modelImport() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import PATH",
		Short: "Bring a model into the mesh: a Hugging Face folder or a GGUF file",
		Long: `Bring a base model of Llama architecture into the mesh, where jobs name it with --model.

PATH is a folder as Hugging Face has it (config.json, safetensors, tokenizer.json) or a GGUF file
(F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K). It is checked, brought into one
form on this machine, and uploaded. What cannot be trained exactly is refused with the reason.

Weights keep their number format. Those of a quantized GGUF file are decoded: to F32, exactly, up
to a billion parameters (4 GiB), to BF16 above; --dtype chooses.
With --json: the model (api.Model); with --dry-run what was found.`,
		Example: `  tunemesh model import ./SmolLM2-135M-Instruct --name smollm2
  tunemesh model import tinyllama.Q4_K_M.gguf --name tinyllama --dtype BF16
  tunemesh model import model.gguf --dry-run --json`,
		Args: exactArgs("PATH"),
		RunE: a.offline(func(c *call) error { return c.importModel(f) }),
	}
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "`name` in the mesh (default: that of PATH, in small letters)")
	flags.StringVar(&f.dtype, "dtype", "", "number format of the matrices: F32, F16 or BF16 (default: see above)")
	flags.BoolVar(&f.replace, "replace", false, "in the place of a model of that name; needs the role admin")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check and convert only; needs no mesh")
	flags.StringVar(&f.workDir, "work-dir", "", "`folder` for the converted model until it is uploaded (default: the system's temporary folder)")
	_ = c.RegisterFlagCompletionFunc("dtype", cobra.FixedCompletions([]string{"F32", "F16", "BF16"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (c *call) importModel(f importFlags) error {
	path := c.args[0]
	if _, err := os.Stat(path); err != nil {
		return wrong("give a Hugging Face folder or a .gguf file on this machine", "%s cannot be read: %s", clip(path), reason(err))
	}
	if f.dtype = strings.ToUpper(f.dtype); !slices.Contains([]string{"", "F32", "F16", "BF16"}, f.dtype) {
		return wrong("there are F32, F16 and BF16", "--dtype %s is none that is known", clip(f.dtype))
	}
	if f.name == "" {
		f.name = modelName(path)
	}
	if !validModelName.MatchString(f.name) {
		return wrong("use letters, digits and . _ -, at most 200", "%q is no name for a model: give one with --name", clip(f.name))
	}
	if !f.dryRun {
		if err := c.dial(); err != nil { // before the minutes of work
			return err
		}
	}
	dir, err := os.MkdirTemp(f.workDir, "tunemesh-import-")
	if err != nil {
		return wrong("name a folder with room for the model with --work-dir", "no place to work in: %s", reason(err))
	}
	defer os.RemoveAll(dir)
	folder := filepath.Join(dir, "model")
	bar := c.progress("convert", -1)
	found, err := c.Import(c.ctx, path, folder, f.dtype, func(done, total int64) {
		bar.line.Total = total
		bar.add(done - bar.line.Done)
	})
	bar.end()
	if err != nil {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		return wrong("", "%s", err)
	}
	for _, w := range found.Warnings {
		fmt.Fprintln(c.err, format.Indent("Warning: ", format.Clean(w), c.Screen(c.err).Width))
	}
	if f.dryRun {
		if c.json {
			return c.printJSON(found)
		}
		c.showImported(found, "")
		return nil
	}
	m, err := c.uploadModel(f, folder, found)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(m)
	}
	c.showImported(found, m.Name)
	fmt.Fprintf(c.err, "Next: tunemesh job submit --model %s --dataset FILE --watch\n", m.Name)
	return nil
}

// uploadModel sends what the mesh has not yet.
func (c *call) uploadModel(f importFlags, folder string, found Imported) (api.Model, error) {
	have, err := c.mesh.Model(c.ctx, f.name)
	var p *api.Problem
	switch {
	case err == nil && have.SHA256 == api.ModelSHA256(found.Files):
		fmt.Fprintf(c.err, "The mesh has this model already.\n")
		return have, nil
	case err == nil && !f.replace:
		return have, &failure{code: ExitRefused, title: fmt.Sprintf("model %s is already there with other files", f.name), hint: "choose another --name, or replace it with --replace"}
	case err != nil && !(errors.As(err, &p) && p.Status == 404):
		return have, err
	}
	for _, file := range found.Files {
		if file.Size > maxModelFile {
			return have, wrong("convert it to 16 bits with --dtype BF16, or choose a smaller model", "%s is %s large; the mesh takes %s in one file", file.Name, format.Bytes(file.Size), format.Bytes(maxModelFile))
		}
	}
	places, err := c.mesh.RequestModelUploads(c.ctx, f.name, found.Files)
	if err != nil {
		return have, err
	}
	var total int64
	for _, p := range places {
		total += p.Size
	}
	bar := c.progress("upload "+f.name, total)
	for _, p := range places {
		if err := c.putModelFile(bar, p, filepath.Join(folder, filepath.FromSlash(p.Name))); err != nil {
			bar.end()
			return have, err
		}
	}
	bar.end()
	return c.mesh.CreateModel(c.ctx, f.name, api.ModelManifest{
		Architecture: found.Architecture, Parameters: found.Parameters, License: found.License, Files: found.Files, Replace: f.replace,
	})
}

// maxModelFile is what the object store takes in one PUT.
const maxModelFile = 5 << 30

// putTries is how often a file is sent whose connection breaks.
const putTries = 4

// putModelFile sends one file, again where that may help.
func (c *call) putModelFile(bar *progress, place api.Artifact, path string) error {
	before := bar.line.Done
	for try := 1; ; try++ {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = c.mesh.Put(c.ctx, place, &counter{r: file, p: bar})
		file.Close()
		if err == nil || c.ctx.Err() != nil || try == putTries {
			return err
		}
		bar.line.Done = before
		select {
		case <-c.ctx.Done():
		case <-time.After(time.Duration(try) * time.Second):
		}
	}
}

func (c *call) showImported(m Imported, name string) {
	f := facts{c: c}
	f.add("Model", name)
	f.add("Architecture", m.Architecture)
	f.add("Parameters", format.Count(m.Parameters))
	numbers := m.DType
	if m.SourceDType != m.DType {
		numbers += ", from " + m.SourceDType
	}
	f.add("Numbers", numbers)
	f.add("Context", format.Count(int64(m.Context))+" tokens")
	f.add("Tokenizer", m.Tokenizer)
	f.add("Template", m.Template)
	f.add("License", m.License)
	var sum int64
	for _, file := range m.Files {
		sum += file.Size
	}
	f.add("Size", fmt.Sprintf("%s in %s", format.Bytes(sum), format.Plural(len(m.Files), "file")))
	for _, n := range m.Notes {
		f.add("Note", n)
	}
	f.print()
}

var (
	validModelName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$`)
	notOfAName     = regexp.MustCompile(`[^a-z0-9._-]+`)
)

// modelName makes a name of a path's last part.
func modelName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	name := strings.ToLower(filepath.Base(path))
	name = strings.TrimSuffix(name, ".gguf")
	name = notOfAName.ReplaceAllString(name, "-")
	return strings.Trim(strings.NewReplacer("-.", ".", ".-", ".").Replace(name), "-._")
}
