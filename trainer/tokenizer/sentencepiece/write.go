package sentencepiece

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

// mark stands for a space.
const mark = "▁"

// Options say what tokenizer.model does not.
type Options struct {
	// NoBOS and AddEOS: whether the token that begins a text is left out, and whether the
	// one that ends it is put behind it (add_bos_token, add_eos_token).
	NoBOS, AddEOS bool
	// Added are tokens beyond the model's, or what else is known of its own.
	Added []tokenizer.AddedToken
}

type object map[string]any

// TokenizerJSON writes the model as a tokenizer.json.
func (m *Model) TokenizerJSON(o Options) ([]byte, error) {
	added, err := m.added(o.Added)
	if err != nil {
		return nil, fmt.Errorf("sentencepiece: %w", err)
	}
	file := object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "post_processor": m.post(o)}
	m.text(file)
	if m.Unigram {
		file["model"] = m.unigram()
	} else {
		file["model"] = m.bpe()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(file); err != nil {
		return nil, fmt.Errorf("sentencepiece: %w", err)
	}
	return b.Bytes(), nil
}

// added lists the tokens that are looked for in a text before it is cut, by id.
func (m *Model) added(more []tokenizer.AddedToken) ([]tokenizer.AddedToken, error) {
	var out []tokenizer.AddedToken
	for id, p := range m.Pieces {
		switch p.Kind {
		case Control, Unknown:
			out = append(out, tokenizer.AddedToken{ID: int32(id), Content: p.Text, Special: true})
		case UserDefined:
			// A run of spaces is found where they are marks already.
			normalized := strings.Contains(p.Text, mark)
			if normalized && m.DummyPrefix {
				return nil, fmt.Errorf("piece %d, %q, is user defined and holds a space: not supported with a space before each text", id, p.Text)
			}
			out = append(out, tokenizer.AddedToken{ID: int32(id), Content: p.Text, Normalized: normalized})
		}
	}
	for _, a := range more {
		if int(a.ID) < len(m.Pieces) && a.ID >= 0 && m.Pieces[a.ID].Text != a.Content {
			return nil, fmt.Errorf("the added token %q has the id %d of %q", a.Content, a.ID, m.Pieces[a.ID].Text)
		}
		if at := slices.IndexFunc(out, func(b tokenizer.AddedToken) bool { return b.ID == a.ID }); at >= 0 {
			out[at] = a
			continue
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b tokenizer.AddedToken) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// text fills in what happens to a text before it is cut, and to tokens on the way back.
func (m *Model) text(file object) {
	replace := func(pattern object, with string) object {
		return object{"type": "Replace", "pattern": pattern, "content": with}
	}
	var normalizers []object
	add := func(when bool, o object) {
		if when {
			normalizers = append(normalizers, o)
		}
	}
	// Before each piece between added tokens, as llama.cpp and the files of Llama 2 do; the
	// library, which knows user defined tokens only, puts it once. It stands before a text
	// that is normalized to nothing too, unless spaces at the end are removed.
	prefix := object{"type": "Prepend", "prepend": mark}
	add(m.DummyPrefix && !m.RemoveSpaces, prefix)
	add(len(m.Charsmap) > 0, object{"type": "Precompiled", "precompiled_charsmap": m.Charsmap, "match": tokenizer.MatchLongest})
	add(m.RemoveSpaces, replace(object{"Regex": " {2,}"}, " "))
	add(m.RemoveSpaces, replace(object{"Regex": `\A | \z`}, ""))
	add(m.DummyPrefix && m.RemoveSpaces, prefix)
	add(true, replace(object{"String": " "}, mark))
	add(m.RemoveSpaces, replace(object{"Regex": mark + `+\z`}, "")) // of marks in the text too
	decoders := []object{replace(object{"String": mark}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}}
	file["pre_tokenizer"] = nil
	if m.DummyPrefix {
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	file["normalizer"] = object{"type": "Sequence", "normalizers": normalizers}
	file["decoder"] = object{"type": "Sequence", "decoders": decoders}
}

func (m *Model) unigram() object {
	vocab := make([][2]any, len(m.Pieces))
	for id, p := range m.Pieces {
		vocab[id] = [2]any{p.Text, p.Score}
	}
	var unk any
	if m.Unk >= 0 {
		unk = m.Unk
	}
	return object{"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": m.ByteFallback}
}

func (m *Model) bpe() object {
	vocab := make(map[string]int, len(m.Pieces))
	for id, p := range m.Pieces {
		vocab[p.Text] = id
	}
	var unk any
	if m.Unk >= 0 {
		unk = m.Pieces[m.Unk].Text
	}
	return object{
		"type": "BPE", "dropout": nil, "unk_token": unk, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": true, "byte_fallback": m.ByteFallback, "ignore_merges": false, "vocab": vocab, "merges": m.merges(),
	}
}

// merges lists every pair of pieces that makes a piece, ranked by that one's score: the
// library joins the neighbours whose whole has the highest.
func (m *Model) merges() [][2]string {
	ids := make(map[string]int, len(m.Pieces))
	for id, p := range m.Pieces {
		if p.Kind == Normal {
			ids[p.Text] = id
		}
	}
	type merge struct {
		left, right string
		whole       int
	}
	var all []merge
	for id, p := range m.Pieces {
		if p.Kind != Normal {
			continue
		}
		for i := range p.Text {
			_, ok1 := ids[p.Text[:i]]
			_, ok2 := ids[p.Text[i:]]
			if i > 0 && ok1 && ok2 {
				all = append(all, merge{p.Text[:i], p.Text[i:], id})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b merge) int {
		return cmp.Or(cmp.Compare(m.Pieces[b.whole].Score, m.Pieces[a.whole].Score), cmp.Compare(a.whole, b.whole),
			cmp.Compare(ids[a.left], ids[b.left]), cmp.Compare(ids[a.right], ids[b.right]))
	})
	out := make([][2]string, len(all))
	for i, x := range all {
		out[i] = [2]string{x.left, x.right}
	}
	return out
}

// post puts the beginning and the end around a text.
func (m *Model) post(o Options) any {
	special := object{}
	token := func(id int32, kind int) object {
		text := m.Pieces[id].Text
		special[text] = object{"id": text, "ids": []int32{id}, "tokens": []string{text}}
		return object{"SpecialToken": object{"id": text, "type_id": kind}}
	}
	around := func(name string, kind int) (out []object) {
		if m.BOS >= 0 && !o.NoBOS {
			out = append(out, token(m.BOS, kind))
		}
		out = append(out, object{"Sequence": object{"id": name, "type_id": kind}})
		if m.EOS >= 0 && o.AddEOS {
			out = append(out, token(m.EOS, kind))
		}
		return out
	}
	single := around("A", 0)
	if len(single) == 1 {
		return nil
	}
	return object{"type": "TemplateProcessing", "single": single, "pair": slices.Concat(single, around("B", 1)), "special_tokens": special}
}
