package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Keys of the config whose values are always text, or lists of text, however
// they look: --set text_column=2024 names a column. All other values are
// guessed.
var (
	textKeys = []string{"task", "model", "text_column", "label_column", "instruction", "template", "dataset.format", "preprocessing.pii", "training.method", "training.init_adapter", "training.schedule", "training.base_precision", "training.compute", "training.on_divergence"}
	listKeys = []string{"training.target_modules", "export.gguf"}
	// otherKeys are known for completion only.
	otherKeys = []string{"seed", "preprocessing.test_fraction", "preprocessing.max_length", "training.rank", "training.alpha", "training.dropout", "training.epochs", "training.max_steps", "training.batch_size", "training.learning_rate", "training.early_stopping_patience", "training.load_best", "evaluation.max_samples", "evaluation.sample_answers", "export.skip_merged"}
	tasks     = []string{"classification", "chat", "summarization", "qa", "extraction", "completion"}
)

// config is a job's config in the making: a tree of JSON objects.
type config map[string]any

// parseConfig reads a config document.
func parseConfig(data []byte, name string) (config, error) {
	var c config
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&c)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return nil, wrong("", "%s holds more than one JSON value", clip(name))
		}
	}
	if err != nil {
		return nil, wrong("write it as a JSON object: {\"training\": {\"rank\": 16}}", "%s is no config: %s", clip(name), jsonFault(data, err))
	}
	if c == nil {
		c = config{}
	}
	return c, nil
}

// set lays one KEY=VALUE over the config.
func (c config) set(assignment string) error {
	key, text, ok := strings.Cut(assignment, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" {
		return wrong("write it as --set training.rank=16", "--set %s is no KEY=VALUE", clip(assignment))
	}
	path := strings.Split(key, ".")
	if slices.Contains(path, "") {
		return wrong("write it as --set training.rank=16", "the key %s has an empty part", clip(key))
	}
	value, err := guess(key, text)
	if err != nil {
		return err
	}
	at := c
	for i, part := range path[:len(path)-1] {
		switch next := at[part].(type) {
		case nil:
			child := config{}
			at[part] = child
			at = child
		case config:
			at = next
		case map[string]any:
			at = next
		default:
			return wrong("", "%s cannot be set: %s is a value, not an object", clip(key), clip(strings.Join(path[:i+1], ".")))
		}
	}
	at[path[len(path)-1]] = value
	return nil
}

// guess gives a value its type: JSON where it looks like it, else number, bool,
// null or text; a list by commas for the keys that are lists.
func guess(key, text string) (any, error) {
	trimmed := strings.TrimSpace(text)
	if trimmed != "" && strings.ContainsRune(`[{"`, rune(trimmed[0])) && !slices.Contains(textKeys, key) {
		d := json.NewDecoder(strings.NewReader(trimmed))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil || d.More() {
			return nil, wrong("quote it for your shell, such as --set 'export.gguf=[\"f16\"]'", "the value of %s looks like JSON but is none: %s", clip(key), clip(text))
		}
		return v, nil
	}
	switch {
	case slices.Contains(listKeys, key):
		list := []any{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, nil
	case slices.Contains(textKeys, key):
		return text, nil
	case trimmed == "true" || trimmed == "false":
		return trimmed == "true", nil
	case trimmed == "null":
		return nil, nil
	}
	if json.Valid([]byte(trimmed)) { // only numbers are left
		return json.Number(trimmed), nil
	}
	if v, err := strconv.ParseFloat(trimmed, 64); err == nil && strings.IndexFunc(trimmed, func(r rune) bool { return !strings.ContainsRune("+-.0123456789eE", r) }) < 0 {
		return v, nil // .5 and +3, which JSON does not know
	}
	return text, nil
}

// document is the config as JSON; nothing for an empty one.
func (c config) document() (json.RawMessage, error) {
	if len(c) == 0 {
		return nil, nil
	}
	return json.Marshal(c)
}

// jsonFault says what is wrong with a JSON document and where.
func jsonFault(data []byte, err error) string {
	offset := int64(-1)
	text := err.Error()
	switch e := err.(type) {
	case *json.SyntaxError:
		offset = e.Offset
	case *json.UnmarshalTypeError:
		offset, text = e.Offset, "a "+e.Value+" does not fit there"
		if e.Field != "" {
			text = e.Field + ": " + text
		}
	}
	if err == io.EOF {
		return "it is empty"
	}
	if err == io.ErrUnexpectedEOF {
		return "it ends in the middle"
	}
	if offset < 0 || offset > int64(len(data)) {
		return strings.TrimPrefix(text, "json: ")
	}
	line := 1 + bytes.Count(data[:offset], []byte("\n"))
	return "line " + strconv.Itoa(line) + ": " + strings.TrimPrefix(text, "json: ")
}
