package export

import (
	"fmt"
	"strings"
)

// training says how the model was made: what was done, not what was asked for.
func (c Card) training(tuning string, line func(format string, args ...any)) {
	t, done := c.Settings.Training, c.trained
	line("- method: %s", tuning)
	if t.Method == "lora" {
		scale := "alpha/rank"
		if t.RSLoRA {
			scale = "alpha/√rank (rsLoRA)"
		}
		line("- rank %d, alpha %g, scaled by %s, dropout %g, on %s", t.Rank, t.Alpha, scale, t.Dropout, strings.Join(t.TargetModules, ", "))
	}
	if done != nil && done.Continued != nil {
		line("- begun with the adapter of %s, SHA-256 `%s`", plain(done.Continued.From), plain(done.Continued.SHA256))
	}
	switch n := t.BatchSize * max(1, t.GradientAccum); {
	case n > 0 && t.PackingTokens > 0:
		line("- steps of %d samples, packed into micro-batches of at most %d tokens", n, t.PackingTokens)
	case n > 0:
		line("- steps of %d samples, in micro-batches of %d", n, t.BatchSize)
	}
	line("- %s", c.length())
	if done != nil && done.ExportedStep > 0 && done.ExportedStep != done.Steps {
		line("- the weights are those of step %d, which had the lowest loss on the validation samples", done.ExportedStep)
	}
	line("- AdamW, peak learning rate %g, schedule %s, weight decay %g, seed %d", t.LearningRate, t.Schedule, t.WeightDecay, c.Settings.Seed)
	if done != nil {
		words := "- engine " + plain(done.Engine)
		if t.Method == "lora" && done.BasePrecision != auto { // an engine that says no more says it below
			words += ", frozen weights in " + plain(done.BasePrecision)
		}
		if t.Method == "lora" && done.Compute != "" {
			words += ", their products in " + plain(done.Compute)
		}
		line("%s", words)
		for _, by := range done.Bits {
			line("- computed by: %s", plain(by))
		}
	}
}

// length says how long the training was.
func (c Card) length() string {
	t, done := c.Settings.Training, c.trained
	if done == nil {
		return "at most " + count(t.Epochs, "epoch")
	}
	words := fmt.Sprintf("%.3g epochs, ", done.Epochs)
	switch {
	case t.MaxSteps == 0 && done.Epochs < float64(t.Epochs):
		words = fmt.Sprintf("%.3g of %s, ", done.Epochs, count(t.Epochs, "epoch"))
	case done.Epochs == 1:
		words = "1 epoch, "
	}
	words += count(done.Steps, "step")
	switch {
	case done.EarlyStopped:
		words += fmt.Sprintf("; stopped early, after %s without a better loss", count(t.Patience, "evaluation"))
	case t.MaxSteps > 0:
		words += ", as training.max_steps says"
	}
	return words
}

// count is a number with what it counts: 1 step, 2 steps.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
