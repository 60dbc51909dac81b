package tuned

import (
	"slices"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// Stops are the tokens that end an answer: the model's own and the template's,
// which may be nil. eos is what the model's folder calls its end token.
func Stops(tok *tokenizer.Tokenizer, shape model.Config, tmpl *template.Template, eos string) []int32 {
	var out []int32
	for _, id := range shape.EOSTokenIDs {
		out = append(out, int32(id))
	}
	texts := []string{eos}
	if tmpl != nil {
		texts = append(texts, tmpl.Stop()...)
	}
	for _, text := range texts {
		if id, ok := tok.TokenID(text); ok && text != "" {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
