package gguf

import (
	"fmt"
	"slices"
	"strings"
)

// vocabulary is the tokenizer as the metadata have it. An id is -1 where there is
// none.
type vocabulary struct {
	sentencePiece bool // BPE with scores
	unigram       bool
	pre           string
	tokens        []string
	types         []int32
	scores        []float32 // of SentencePiece, BPE and Unigram
	merges        []string  // of byte-level BPE

	bos, eos, eot, unk, pad int32
	addBOS, addEOS          bool
	spacePrefix             bool
	removeSpaces            bool   // of Unigram
	charsmap                []byte // of Unigram
	chatTemplate            string
	notes                   []string
}

// kind names the tokenizer for people.
func (v vocabulary) kind() string {
	switch {
	case v.sentencePiece:
		return "llama"
	case v.unigram:
		return modelUnigram
	}
	return v.pre
}

// preTokenizerOf knows the names that llama.cpp has for ways to cut text which an export
// can name again, with the one that stands for all that are the same (llama-vocab.cpp, load).
func preTokenizerOf(name string) (string, bool) {
	switch name {
	case "gpt-2", "phi-2":
		return "gpt-2", true
	case "smollm", "starcoder", "refact", "command-r", "codeshell":
		return "smollm", true
	case "llama-bpe", "llama3", "llama-v3":
		return "llama-bpe", true
	case "qwen2", "deepseek-r1-qwen":
		return "qwen2", true
	}
	return "", false
}

// unigramDefaults are the ids that llama.cpp takes where a Unigram vocabulary names none.
var unigramDefaults = map[string]int32{"eos": 1, "unknown": 2, "padding": 0}

// vocabularyKind says what the tokenizer is.
func (m metadata) vocabularyKind() (vocabulary, error) {
	v := vocabulary{}
	kind, _ := m.text("tokenizer.ggml.model")
	pre, _ := m.text("tokenizer.ggml.pre")
	switch kind {
	case "gpt2":
		var ok bool
		if v.pre, ok = preTokenizerOf(pre); !ok {
			return v, fmt.Errorf("tokenizer.ggml.pre is %q; imported are gpt-2, smollm, llama-bpe, qwen2 and their other names", pre)
		}
	case "llama":
		v.sentencePiece = true
	case modelUnigram:
		v.unigram = true
	case "":
		return v, fmt.Errorf("tokenizer.ggml.model is missing: a file without a vocabulary cannot be trained on text")
	default:
		return v, fmt.Errorf("tokenizer.ggml.model is %q; imported are gpt2 (byte-level BPE), llama (BPE of SentencePiece) and t5 (Unigram)", kind)
	}
	return v, nil
}

// vocabulary reads and checks the tokenizer's entries. What llama.cpp assumes where
// an entry is missing is assumed here.
func (m metadata) vocabulary() (vocabulary, error) {
	v, err := m.vocabularyKind()
	if err != nil {
		return v, err
	}
	if err := m.tokenLists(&v); err != nil {
		return v, err
	}
	for key, to := range map[string]*int32{"bos": &v.bos, "eos": &v.eos, "eot": &v.eot, "unknown": &v.unk, "padding": &v.pad} {
		*to = -1
		if n, ok := unigramDefaults[key]; ok && v.unigram && n < int32(len(v.tokens)) {
			*to = n
		}
		n, ok := m.integer("tokenizer.ggml." + key + "_token_id")
		if ok && n >= 0 && n < len(v.tokens) {
			*to = int32(n)
		} else if ok && n != -1 && uint32(n) != ^uint32(0) {
			return v, fmt.Errorf("tokenizer.ggml.%s_token_id is %d, but there are %d tokens", key, n, len(v.tokens))
		}
	}
	if (v.sentencePiece || v.unigram) && v.unk < 0 {
		v.unk = int32(slices.Index(v.types, tokenUnknown))
	}
	v.addBOS = m.boolean("tokenizer.ggml.add_bos_token", v.sentencePiece || v.pre == "llama-bpe") && v.bos >= 0
	v.addEOS = m.boolean("tokenizer.ggml.add_eos_token", v.unigram) && v.eos >= 0
	v.spacePrefix = m.boolean("tokenizer.ggml.add_space_prefix", true)
	if v.sentencePiece && (m.boolean("tokenizer.ggml.remove_extra_whitespaces", false) || has(m, "tokenizer.ggml.precompiled_charsmap")) {
		return v, fmt.Errorf("the vocabulary normalizes text (remove_extra_whitespaces or precompiled_charsmap), which is not imported")
	}
	if v.unigram {
		if err := m.unigramSettings(&v); err != nil {
			return v, err
		}
	}
	v.chatTemplate, _ = m.text("tokenizer.chat_template")
	if has(m, "tokenizer.chat_templates") {
		v.notes = append(v.notes, "of several chat templates the default one is kept")
	}
	return v, nil
}

func (m metadata) tokenLists(v *vocabulary) error {
	value := func(key string) any { x, _ := m.f.Value("tokenizer.ggml." + key); return x }
	var ok bool
	if v.tokens, ok = value("tokens").([]string); !ok || len(v.tokens) == 0 {
		return fmt.Errorf("tokenizer.ggml.tokens is missing or empty")
	}
	n := len(v.tokens)
	switch types := value("token_type").(type) {
	case []int32:
		v.types = types
	case nil: // old files: all of them normal
		v.types = make([]int32, n)
		for i := range v.types {
			v.types[i] = tokenNormal
		}
	}
	if len(v.types) != n {
		return fmt.Errorf("%d tokens, but %d token types", n, len(v.types))
	}
	if v.sentencePiece || v.unigram {
		if v.scores, _ = value("scores").([]float32); len(v.scores) != n {
			return fmt.Errorf("%d tokens, but %d scores", n, len(v.scores))
		}
		return nil
	}
	if v.merges, ok = value("merges").([]string); !ok {
		return fmt.Errorf("tokenizer.ggml.merges is missing")
	}
	return nil
}

// filler says whether a token only fills up the embedding: no text becomes it.
func (v vocabulary) filler(id int) bool {
	return (v.types[id] == tokenUnused || v.types[id] == tokenUndefined) && v.tokens[id] == fmt.Sprintf("[PAD%d]", id)
}

// object is a JSON object of few keys.
type object map[string]any

// tokenizerJSON is the vocabulary as a tokenizer.json that gives the same ids.
func (v vocabulary) tokenizerJSON() ([]byte, error) {
	if v.unigram {
		return v.unigramJSON()
	}
	ids := make(map[string]int32, len(v.tokens))
	var added []object
	for id, t := range v.tokens {
		if v.filler(id) {
			continue
		}
		if have, dup := ids[t]; dup {
			return nil, fmt.Errorf("tokens %d and %d are both %q", have, id, t)
		}
		ids[t] = int32(id)
		kind := v.types[id]
		// These are looked for in raw text before it is cut (llama-vocab.cpp,
		// cache_special_tokens).
		if t != "" && (kind == tokenControl || kind == tokenUserDefined || kind == tokenUnknown) {
			added = append(added, object{"id": id, "content": t, "single_word": false, "lstrip": false, "rstrip": false,
				"normalized": false, "special": kind != tokenUserDefined})
		}
	}
	file := object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "post_processor": v.postProcessor()}
	if v.sentencePiece {
		v.sentencePieceParts(file, ids)
	} else {
		v.byteLevelParts(file, ids)
	}
	return marshal(file, false)
}

func (v vocabulary) byteLevelParts(file object, ids map[string]int32) {
	regex := v.pre == "gpt-2" || v.pre == "smollm"
	level := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex}
	split := func(pattern string) object {
		return object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false}
	}
	sequence := func(first object) object { return object{"type": "Sequence", "pretokenizers": []object{first, level}} }
	file["normalizer"], file["pre_tokenizer"] = nil, level
	switch v.pre {
	case "smollm":
		file["pre_tokenizer"] = sequence(object{"type": "Digits", "individual_digits": true})
	case "llama-bpe":
		file["pre_tokenizer"] = sequence(split(llama3Pattern))
	case "qwen2":
		file["pre_tokenizer"] = sequence(split(qwen2Pattern))
	}
	file["decoder"] = object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
	file["model"] = object{
		"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": v.pre == "llama-bpe", "vocab": ids, "merges": v.merges,
	}
}

// postProcessor puts the beginning and the end around a text, if the model wants
// them.
func (v vocabulary) postProcessor() any {
	if !v.addBOS && !v.addEOS {
		return nil
	}
	special := object{}
	token := func(id int32, kind int) object {
		t := v.tokens[id]
		special[t] = object{"id": t, "ids": []int32{id}, "tokens": []string{t}}
		return object{"SpecialToken": object{"id": t, "type_id": kind}}
	}
	around := func(name string, kind int) (out []object) {
		if v.addBOS {
			out = append(out, token(v.bos, kind))
		}
		out = append(out, object{"Sequence": object{"id": name, "type_id": kind}})
		if v.addEOS {
			out = append(out, token(v.eos, kind))
		}
		return out
	}
	single := around("A", 0)
	return object{"type": "TemplateProcessing", "single": single, "pair": slices.Concat(single, around("B", 1)), "special_tokens": special}
}

// configJSON is the tokenizer_config.json.
func (v vocabulary) configJSON(context int) ([]byte, error) {
	c := object{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "clean_up_tokenization_spaces": false,
		"add_bos_token": v.addBOS, "add_eos_token": v.addEOS,
	}
	for key, id := range map[string]int32{"bos_token": v.bos, "eos_token": v.eos, "unk_token": v.unk, "pad_token": v.pad} {
		if id >= 0 {
			c[key] = v.tokens[id]
		}
	}
	if strings.TrimSpace(v.chatTemplate) != "" {
		c["chat_template"] = v.chatTemplate
	}
	return marshal(c, true)
}
