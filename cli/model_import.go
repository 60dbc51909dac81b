package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// Importer turns a model from wherever it is into the folder OutDir, in the form in which the
// mesh keeps base models.
type Importer func(ctx context.Context, r ImportRequest) (Imported, error)

// ImportRequest is what an Importer is asked for.
type ImportRequest struct {
	// Source is a Hugging Face folder or a GGUF file on this machine, or one that is
	// Remote.
	Source   string
	Name     string // what the user calls it, for errors
	OutDir   string // is made
	DType    string // "F32", "F16", "BF16", or "" to let it choose
	CacheDir string // for downloads that may be interrupted; "": the user's cache folder
	// Progress hears of what is being done: "fetch" or "convert".
	Progress func(phase string, done, total int64)
	// Notice hears what a person waits for.
	Notice func(text string)
}

// Remote says that a source is not a path: hf:ORG/NAME[@REVISION], hf:ORG/NAME/FILE.gguf,
// ollama:NAME[:TAG] or s3:NAME.
func Remote(source string) bool {
	for _, scheme := range []string{"hf:", "ollama:", "s3:"} {
		if strings.HasPrefix(source, scheme) {
			return true
		}
	}
	return false
}

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
	Source       string          `json:"source,omitempty"` // with the commit, of one that was fetched
	// Done, if set, is called when the mesh has the model: what was fetched may go.
	Done func() `json:"-"`
}

// importFlags are those of `model import`.
type importFlags struct {
	name, dtype, workDir, cacheDir string
	replace, dryRun                bool
}

func (a *app) modelImport() *cobra.Command {
	return a.importCommand(&cobra.Command{
		Use:   "import SOURCE",
		Short: "Bring a model into the mesh: from a folder, a GGUF file, a hub, Ollama or the bucket",
		Long: `Bring a base model into the mesh, where jobs name it with --model.

SOURCE is a folder as Hugging Face has it (config.json, safetensors, tokenizer.json or
tokenizer.model), a GGUF file (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K), or
what "tunemesh model pull --help" lists. It is checked, brought into one form on this machine, and
uploaded. What cannot be trained exactly is refused with the reason. The same bytes are in a mesh
once, under however many names: only what it lacks is sent, and an import that broke off goes on.

Weights keep their number format. Those of a quantized GGUF file are decoded: to F32, exactly, up
to a billion parameters (4 GiB), to BF16 above; --dtype chooses.
With --json: the model (api.Model); with --dry-run what was found.`,
		Example: `  tunemesh model import ./SmolLM2-135M-Instruct --name smollm2
  tunemesh model import tinyllama.Q4_K_M.gguf --name tinyllama --dtype BF16
  tunemesh model import model.gguf --dry-run --json`,
	})
}

func (a *app) modelPull() *cobra.Command {
	return a.importCommand(&cobra.Command{
		Use:   "pull SOURCE",
		Short: "Fetch a model from a hub, Ollama or the bucket, and bring it into the mesh",
		Long: `Fetch a base model and bring it into the mesh, as "tunemesh model import" does with what is on
this machine. SOURCE is

  hf:ORG/NAME[@REVISION]            of a Hugging Face hub; HF_ENDPOINT names another one, HF_TOKEN
                                    is sent to it (gated and private models need it)
  hf:ORG/NAME/FILE.gguf[@REVISION]  one GGUF file of it
  ollama:NAME[:TAG]                 of the Ollama on this machine, looked for in OLLAMA_MODELS, in
                                    ~/.ollama/models and where its Linux service keeps models
  s3:NAME                           the files that lie in the mesh's bucket under models/base/NAME/

Only what is needed is fetched, and checked by its checksum. An interrupted download goes on where
it was when the same line is given again. What the small files tell, such as an architecture that
is not supported, is refused before any weights are fetched.
With --json: the model (api.Model); with --dry-run what was found.`,
		Example: `  tunemesh model pull hf:HuggingFaceTB/SmolLM2-135M-Instruct
  HF_TOKEN=$(cat token) tunemesh model pull hf:google/gemma-3-270m-it@main --name gemma
  tunemesh model pull ollama:smollm2:135m`,
	})
}

// importCommand gives pull and import what they share.
func (a *app) importCommand(c *cobra.Command) *cobra.Command {
	var f importFlags
	c.Args = exactArgs("SOURCE")
	c.RunE = a.offline(func(c *call) error { return c.importModel(f) })
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "`name` in the mesh (default: that of SOURCE, in small letters)")
	flags.StringVar(&f.dtype, "dtype", "", "number format of the matrices: F32, F16 or BF16 (default: see above)")
	flags.BoolVar(&f.replace, "replace", false, "in the place of a model of that name; needs the role admin")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check and convert only; needs no mesh, but for s3:NAME")
	flags.StringVar(&f.workDir, "work-dir", "", "`folder` for the converted model until it is uploaded (default: the system's temporary folder)")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "`folder` where downloads wait until they are whole (default: tunemesh in the user's cache folder)")
	_ = c.RegisterFlagCompletionFunc("dtype", cobra.FixedCompletions([]string{"F32", "F16", "BF16"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (c *call) importModel(f importFlags) error {
	source := c.args[0]
	remote := Remote(source)
	if !remote {
		if c.cmd.Name() == "pull" {
			return wrong("give hf:ORG/NAME, ollama:NAME or s3:NAME; a folder or file on this machine is brought in with model import", "%s is no source that is fetched", clip(source))
		}
		if _, err := os.Stat(source); err != nil {
			return wrong("give a Hugging Face folder or a .gguf file on this machine, or hf:ORG/NAME", "%s cannot be read: %s", clip(source), reason(err))
		}
	}
	if f.dtype = strings.ToUpper(f.dtype); !slices.Contains([]string{"", "F32", "F16", "BF16"}, f.dtype) {
		return wrong("there are F32, F16 and BF16", "--dtype %s is none that is known", clip(f.dtype))
	}
	if scheme, name, _ := strings.Cut(source, ":"); remote && name == "" {
		return wrong("see `"+c.cmd.CommandPath()+" --help`", "%s: names no model: a name follows the colon", scheme)
	}
	if f.name == "" {
		f.name = modelName(source)
	}
	if !validModelName.MatchString(f.name) {
		return wrong("use letters, digits and . _ -, at most 200", "%q is no name for a model: give one with --name", clip(f.name))
	}
	if inBucket := strings.HasPrefix(source, "s3:"); !f.dryRun || inBucket {
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
	if name, ok := strings.CutPrefix(source, "s3:"); ok {
		if source, err = c.fetchObjects(name, filepath.Join(dir, "source", name)); noRoom(err) {
			return c.importFault(f, fmt.Errorf("fetch %s: %w", c.args[0], err))
		}
		if err != nil {
			return err
		}
	}
	found, err := c.runImport(ImportRequest{Source: source, Name: c.args[0], OutDir: folder, DType: f.dtype, CacheDir: f.cacheDir})
	if err != nil {
		return c.importFault(f, err)
	}
	if remote {
		found.Source = cmp.Or(found.Source, c.args[0])
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
	if found.Done != nil {
		found.Done()
	}
	if c.json {
		return c.printJSON(m)
	}
	c.showImported(found, m.Name)
	fmt.Fprintf(c.err, "Next: tunemesh job submit --model %s --dataset FILE --watch\n", m.Name)
	return nil
}

// runImport calls the Importer and shows how far it is.
func (c *call) runImport(r ImportRequest) (Imported, error) {
	var bar *progress
	phase := ""
	end := func() {
		if bar != nil {
			bar.end()
		}
	}
	defer func() { end() }()
	r.Progress = func(p string, done, total int64) {
		if p != phase {
			end()
			phase, bar = p, c.progress(p, -1)
		}
		bar.line.Total = total
		bar.add(done - bar.line.Done)
	}
	r.Notice = func(text string) {
		end()
		fmt.Fprintln(c.err, format.Indent("Waiting: ", format.Clean(text), c.Screen(c.err).Width))
	}
	return c.Import(c.ctx, r)
}

// importFault gives an Importer's error its exit code; one that has it already keeps it.
func (c *call) importFault(f importFlags, err error) error {
	var known *failure
	switch {
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case errors.As(err, &known):
		return err
	case noRoom(err):
		return NoRoom(fmt.Sprintf("make room in %s, or name a folder on another disk with --work-dir", cmp.Or(f.workDir, os.TempDir())), "%s", err)
	}
	return wrong("", "%s", err)
}

func (c *call) showImported(m Imported, name string) {
	f := facts{c: c}
	f.add("Model", name)
	f.add("Source", m.Source)
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

// modelName makes a name of a source's last part.
func modelName(source string) string {
	if scheme, rest, ok := strings.Cut(source, ":"); ok && Remote(source) {
		switch scheme {
		case "hf":
			rest, _, _ = strings.Cut(rest, "@")
		case "ollama":
			rest = strings.TrimSuffix(rest, ":latest")
		}
		source = rest
	} else if abs, err := filepath.Abs(source); err == nil {
		source = abs
	}
	name := strings.ToLower(filepath.Base(source))
	name = strings.TrimSuffix(name, ".gguf")
	name = notOfAName.ReplaceAllString(name, "-")
	return strings.Trim(strings.NewReplacer("-.", ".", ".-", ".").Replace(name), "-._")
}
