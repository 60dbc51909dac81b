package gguf

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// sentencePieceParts fills in the components of Llama 2's tokenizer.json.
//
// llama.cpp joins the neighbours whose whole has the highest score. Here every pair
// of tokens that makes a token is a merge, ranked by the whole's score, as
// transformers' converter of SentencePiece models ranks them
// (convert_slow_tokenizer.py, generate_merges).
func (v vocabulary) sentencePieceParts(file object, ids map[string]int32) {
	normalizers := []object{{"type": "Replace", "pattern": object{"String": " "}, "content": spaceMark}}
	decoders := []object{
		{"type": "Replace", "pattern": object{"String": spaceMark}, "content": " "},
		{"type": "ByteFallback"}, {"type": "Fuse"},
	}
	if v.spacePrefix {
		normalizers = append([]object{{"type": "Prepend", "prepend": spaceMark}}, normalizers...)
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	file["normalizer"] = object{"type": "Sequence", "normalizers": normalizers}
	file["pre_tokenizer"] = nil
	file["decoder"] = object{"type": "Sequence", "decoders": decoders}
	var unk any
	if v.unk >= 0 {
		unk = v.tokens[v.unk]
	}
	file["model"] = object{
		"type": "BPE", "dropout": nil, "unk_token": unk, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": ids, "merges": v.mergesByScore(ids),
	}
}

func (v vocabulary) mergesByScore(ids map[string]int32) [][2]string {
	normal := make(map[string]bool, len(ids))
	for t, id := range ids {
		normal[t] = v.types[id] == tokenNormal
	}
	type merge struct {
		left, right string
		whole       int
	}
	var all []merge
	for id, t := range v.tokens {
		if v.types[id] != tokenNormal {
			continue
		}
		for i := range t {
			if i > 0 && normal[t[:i]] && normal[t[i:]] {
				all = append(all, merge{t[:i], t[i:], id})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b merge) int {
		return cmp.Or(
			cmp.Compare(v.scores[b.whole], v.scores[a.whole]), // the highest first
			cmp.Compare(a.whole, b.whole),
			cmp.Compare(ids[a.left], ids[b.left]), cmp.Compare(ids[a.right], ids[b.right]))
	})
	out := make([][2]string, len(all))
	for i, m := range all {
		out[i] = [2]string{m.left, m.right}
	}
	return out
}

// ties says whether tokens have the same score: llama.cpp then joins the leftmost,
// tokenizer.json the one with the lower id. Models made by SentencePiece have none.
func (v vocabulary) ties() []string {
	if !v.sentencePiece {
		return nil
	}
	seen := map[float32]bool{}
	count := 0
	for id, t := range v.tokens {
		if v.types[id] != tokenNormal || utf8.RuneCountInString(t) < 2 { // nothing is joined to a single character
			continue
		}
		if seen[v.scores[id]] {
			count++
		}
		seen[v.scores[id]] = true
	}
	if count == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d tokens share their score with another: where both fit, ids may differ from llama.cpp's", count)}
}
