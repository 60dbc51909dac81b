package template_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/template"
)

// BenchmarkRender puts one example into a model's own template, with the loss.
func BenchmarkRender(b *testing.B) {
	messages := []template.Message{{Role: "user", Content: strings.Repeat("Classify this text, please. ", 15)}, {Role: "assistant", Content: "billing"}}
	for _, name := range []string{"qwen3", "gemma3", "llama3_2", "smollm2"} {
		tmpl, err := own(b, name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tmpl.Render(messages); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
