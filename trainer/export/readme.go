package export

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

// readme writes the card as a hub shows it: YAML front matter, then prose. Format:
// https://huggingface.co/docs/hub/model-cards
func (c Card) readme(tuning, templateName string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("---")
	license := c.Base.License
	if license == "" {
		license = "unknown"
	}
	line("license: %s", yaml(license))
	if c.Base.Name != "" {
		line("base_model: %s", yaml(c.Base.Name))
	}
	line("library_name: transformers")
	line("pipeline_tag: text-generation")
	line("tags: [tunemesh, %s, %s]", yaml(c.Task), yaml(tuning))
	if m := c.Metrics; m != nil {
		line("model-index:")
		line("  - name: %s", yaml(c.RunID))
		line("    results:")
		line("      - task: {type: text-generation, name: %s}", yaml(c.Task))
		line("        dataset: {type: private, name: %s}", yaml(c.dataName()))
		line("        metrics:")
		for _, f := range figures(m.Tuned) {
			line("          - {type: %s, value: %.6g}", f.key, f.value)
		}
	}
	line("---")
	line("")
	line("# %s", plain(c.RunID))
	line("")
	line("%s, tuned with %s for %s on %s.", plain(orElse(c.Base.Name, "A base model")), tuning, plain(c.Task), plain(c.dataName()))
	if m := c.Metrics; m != nil {
		line("")
		line("## Measured")
		line("")
		split := "held-out"
		if m.Split != "test.jsonl" {
			split = "not held-out"
		}
		line("On %d %s samples:", m.TestSamples, split)
		line("")
		line("| | base | tuned |")
		line("|---|---|---|")
		base := figures(m.Base)
		for i, f := range figures(m.Tuned) {
			line("| %s | %.4g | %.4g |", f.title, base[i].value, f.value)
		}
	}
	line("")
	line("## Training")
	line("")
	t := c.Settings.Training
	line("- method: %s", tuning)
	if t.Method == "lora" {
		line("- rank %d, alpha %g, dropout %g, on %s", t.Rank, t.Alpha, t.Dropout, strings.Join(t.TargetModules, ", "))
	}
	line("- %d epochs, batches of %d, AdamW, peak learning rate %g, schedule %s, seed %d", t.Epochs, t.BatchSize*t.GradientAccum, t.LearningRate, t.Schedule, c.Settings.Seed)
	if p := c.Prepared; p != nil {
		line("- %d samples to train on, %d for validation, %d for the test", p.Train, p.Validation, p.Test)
		if p.Instruction != "" {
			line("- instruction: %s", plain(p.Instruction))
		}
	}
	if templateName != "" {
		line("- chat template: %s", templateName)
	}
	if d := c.Data; d != nil {
		line("- dataset: %s, %d rows, SHA-256 `%s`", plain(d.File), d.Rows, d.SHA256)
	}
	line("")
	line("The base model's licence (%s) and the rights in the data apply to this model too.", plain(license))
	return b.String()
}

func (c Card) dataName() string {
	if c.Data == nil {
		return "data of its own"
	}
	return c.Data.File
}

// figure is one number of an evaluation.
type figure struct {
	key, title string
	value      float64
}

func figures(s evaluation.Scores) []figure {
	var out []figure
	if c := s.Classification; c != nil {
		out = append(out, figure{"accuracy", "accuracy", c.Accuracy}, figure{"f1", "macro F1", c.MacroF1})
	}
	if g := s.Generation; g != nil {
		out = append(out, figure{"exact_match", "exact match", g.ExactMatch}, figure{"f1", "token F1", g.TokenF1}, figure{"rouge", "ROUGE-L", g.RougeL})
	}
	return append(out, figure{"loss", "loss, nats per token", s.Loss}, figure{"perplexity", "perplexity", s.Perplexity})
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// yaml quotes a text so that no character of it has a meaning; JSON strings are
// YAML's double-quoted ones.
func yaml(s string) string { return string(quote(s)) }

// plain keeps a user's text on one line of Markdown.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }
