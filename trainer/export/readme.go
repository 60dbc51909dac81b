package export

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

// readme writes the card as a hub shows it: YAML front matter, then prose. Format:
// https://huggingface.co/docs/hub/model-cards
func (c Card) readme(tuning, templateName string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("---")
	license, licenseName, licenseLink := c.Base.hubLicense()
	line("license: %s", license)
	if licenseName != "" {
		line("license_name: %s", yaml(licenseName))
	}
	if licenseLink != "" {
		line("license_link: %s", yaml(licenseLink))
	}
	if id := c.Base.hubID(); id != "" {
		line("base_model: %s", yaml(id))
		line("base_model_relation: finetune")
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
			line("          - {type: %s, name: %s, value: %.6g}", f.key, yaml(f.title), f.value)
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
		line("| | base | tuned | difference, 95 %% interval |")
		line("|---|---|---|---|")
		base := figures(m.Base)
		for i, f := range figures(m.Tuned) {
			line("| %s | %.4g | %.4g | %s |", f.title, base[i].value, f.value, interval(m.Comparisons, f.name))
		}
		line("")
		if m.Verdict != "" {
			line("%s", m.Verdict)
			line("")
		}
		line("Intervals are by the paired bootstrap over the samples; one that holds 0 does not tell the models apart.")
		if g := m.Tuned.Generation; g != nil {
			line("ROUGE as rouge_score computes it, words: %s, without stemming. BLEU: `%s`.", g.RougeTokenizer, g.BLEUSignature)
		}
	}
	c.forms(line)
	line("")
	line("## Training")
	line("")
	c.training(tuning, line)
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
		line("- dataset: %s, %d rows, SHA-256 `%s`", plain(c.dataName()), d.Rows, d.SHA256)
	}
	if p := c.Prepared; p != nil {
		line("- cleaning: %s left out; %s", counts(p.Dropped, "row", "rows"), counts(p.Redacted, "personal value", "personal values")+" redacted")
	}
	line("")
	line("The base model's licence (%s) and the rights in the data apply to this model too.", plain(orElse(c.Base.License, "unknown")))
	return b.String()
}

func (c Card) dataName() string {
	if c.Data == nil {
		return "data of its own"
	}
	return orElse(c.Data.Name, c.Data.File)
}

// forms says what was exported and how far each file is from the tuned model.
func (c Card) forms(line func(format string, args ...any)) {
	if len(c.Parity) == 0 {
		return
	}
	line("")
	line("## Files")
	line("")
	line("Each was read again, by what it says of itself, and compared with the tuned model at %d positions:", c.positions())
	line("")
	line("| | largest difference of a logit | mean KL, nats | same best token | note |")
	line("|---|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(c.Parity)) {
		p := c.Parity[name]
		note := otherBlocks(p)
		if p.Judge != nil {
			note = strings.TrimPrefix(note+fmt.Sprintf("; read by %s: mean KL %.2g", p.Judge.Program, p.Judge.MeanKL), "; ")
		}
		line("| `%s` | %.3g | %.2g | %.1f %% | %s |", name, p.MaxDelta, p.MeanKL, 100*p.SameTop, note)
	}
	line("")
	line("`model_card.json` has the SHA-256 of every file. With Ollama: `ollama create NAME -f Modelfile`, beside the GGUF files.")
}

func (c Card) positions() int {
	n := 0
	for _, p := range c.Parity {
		n = max(n, p.Positions)
	}
	return n
}

// interval is the difference of one figure, if it was compared.
func interval(list []evaluation.Comparison, name string) string {
	for _, c := range list {
		if c.Metric == name {
			return fmt.Sprintf("%+.4g (%+.4g to %+.4g)", c.Difference, c.DiffCI95[0], c.DiffCI95[1])
		}
	}
	return ""
}

// counts lists numbers by what they count: "3 rows (2 duplicate, 1 missing)".
func counts(by map[string]int64, one, many string) string {
	sum := int64(0)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if n := by[name]; n > 0 {
			sum += n
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(plain(name), "_", " ")))
		}
	}
	word := many
	if sum == 1 {
		word = one
	}
	if sum == 0 {
		return "no " + many
	}
	return fmt.Sprintf("%d %s (%s)", sum, word, strings.Join(parts, ", "))
}

// figure is one number of an evaluation: its type on the hub, its name in
// evaluation.Comparison and its title.
type figure struct {
	key, name, title string
	value            float64
}

func figures(s evaluation.Scores) []figure {
	var out []figure
	if c := s.Classification; c != nil {
		out = append(out, figure{"accuracy", "accuracy", "accuracy", c.Accuracy}, figure{"f1", "macro_f1", "macro F1", c.MacroF1})
	}
	if g := s.Generation; g != nil {
		out = append(out, figure{"exact_match", "exact_match", "exact match", g.ExactMatch}, figure{"f1", "token_f1", "token F1", g.TokenF1},
			figure{"rouge", "rouge_1", "ROUGE-1", g.Rouge1}, figure{"rouge", "rouge_2", "ROUGE-2", g.Rouge2}, figure{"rouge", "rouge_l", "ROUGE-L", g.RougeL},
			figure{"bleu", "bleu", "BLEU", g.BLEU})
	}
	return append(out, figure{"loss", "loss", "loss, nats per token", s.Loss}, figure{"perplexity", "perplexity", "perplexity", s.Perplexity})
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
