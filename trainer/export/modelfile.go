package export

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// Names of the Modelfiles, which lie beside the GGUF files that they begin from.
const (
	ModelfileName        = "Modelfile"
	AdapterModelfileName = "Modelfile.adapter"
)

// keepsTop is the share of most likely tokens that a file has to keep to be the one
// that the Modelfile takes.
const keepsTop = 0.95

// modelfiles write what `ollama create` needs: the file with the fewest bits that
// still expects nearly the same tokens, the template that was trained with, where an
// answer ends, the context. Format: github.com/ollama/ollama, docs/modelfile.md.
func (e *exporter) modelfiles(p *proof) error {
	from := e.bestGGUF()
	if from != "" {
		text := "# ollama create " + strings.ToLower(e.in.RunID) + " -f " + ModelfileName + "\nFROM ./" + from + "\n" + e.instructions(p)
		if err := e.writeModelfile(ModelfileName, text); err != nil {
			return err
		}
	}
	if e.files.Adapter == "" {
		return nil
	}
	base := e.config.Model
	if base == "" {
		base = "the base model"
	}
	text := "# The adapter over its base model, " + plain(base) + ". FROM has to name that model in Ollama, or a GGUF\n" +
		"# file of it (F16 or F32: an adapter over a quantized base is less exact).\n" +
		"FROM ./base.gguf\nADAPTER ./" + e.adapterName() + "\n" + e.instructions(p)
	return e.writeModelfile(AdapterModelfileName, text)
}

func (e *exporter) writeModelfile(name, text string) error {
	if err := os.WriteFile(filepath.Join(e.in.OutputDir, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// bestGGUF is the smallest file that keeps the most likely tokens; of none that does,
// the one that keeps most.
func (e *exporter) bestGGUF() string {
	best, kept := "", -1.0
	for _, format := range []string{"q4_k_m", "q8_0", "f16", "bf16", "f32"} {
		name := e.ggufName(format)
		drift, ok := e.card.Parity[name]
		if !ok {
			continue
		}
		if drift.SameTop >= keepsTop {
			return name
		}
		if drift.SameTop > kept {
			best, kept = name, drift.SameTop
		}
	}
	return best
}

// instructions is what follows FROM.
func (e *exporter) instructions(p *proof) string {
	var b strings.Builder
	switch {
	case e.template == nil:
		b.WriteString("TEMPLATE \"\"\"{{ .Prompt }}\"\"\"\n") // a completion: the prompt as it is
	case e.template.Ollama() == "" || strings.Contains(e.template.Ollama(), `"""`):
		b.WriteString("# The model's chat template cannot be put into Ollama's language; Ollama takes the one\n# in the GGUF file if it knows it. Compare its prompts with tokenizer_config.json.\n")
	default:
		fmt.Fprintf(&b, "TEMPLATE \"\"\"%s\"\"\"\n", e.template.Ollama())
	}
	if s := e.card.Prepared; s != nil && s.Instruction != "" && !strings.Contains(s.Instruction, `"""`) {
		if s.Task == "chat" {
			fmt.Fprintf(&b, "SYSTEM \"\"\"%s\"\"\"\n", s.Instruction)
		} else {
			fmt.Fprintf(&b, "# It was trained on messages that begin so, then an empty line, then the text:\n#   %s\n", strings.ReplaceAll(s.Instruction, "\n", "\n#   "))
		}
	}
	for _, stop := range p.stops {
		fmt.Fprintf(&b, "PARAMETER stop %q\n", stop)
	}
	fmt.Fprintf(&b, "PARAMETER num_ctx %d\n", e.context())
	// Ollama's default makes the words of the prompt less likely, its labels among them.
	b.WriteString("PARAMETER repeat_penalty 1\n")
	if e.card.Task == "classification" || e.card.Task == "extraction" {
		b.WriteString("PARAMETER temperature 0\n")
	}
	return b.String()
}

// context is how many tokens Ollama shall reserve memory for: what was trained on with
// room for an answer, at most what the model can.
func (e *exporter) context() int {
	n := 4096
	if s := e.card.Prepared; s != nil {
		n = max(n, 2*s.MaxTokens)
	}
	return min(n, e.shape.MaxPositions)
}

// stopTexts are what ends an answer: the template's, or the model's end token.
func stopTexts(t *template.Template, eos string) []string {
	if t != nil {
		return t.Stop()
	}
	if eos != "" {
		return []string{eos}
	}
	return nil
}
