package tokenizer

import (
	"encoding/json"
	"fmt"
)

type postConfig struct {
	Type       string            `json:"type"`
	Processors []json.RawMessage `json:"processors"`
	Single     []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct {
			ID string `json:"id"`
		} `json:"Sequence"`
	} `json:"single"`
	SpecialTokens map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
	Sep json.RawMessage `json:"sep"`
	Cls json.RawMessage `json:"cls"`
}

// parsePost reads a post-processor as what it does to a single text: ids before
// and ids after.
func parsePost(raw json.RawMessage) (prefix, suffix []int32, err error) {
	if isNull(raw) {
		return nil, nil, nil
	}
	var c postConfig
	if err := readPart(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("post-processor: %w", err)
	}
	switch c.Type {
	case "ByteLevel":
		return nil, nil, nil // moves offsets only
	case "TemplateProcessing":
		after := false
		for _, piece := range c.Single {
			switch {
			case piece.Sequence != nil && (piece.Sequence.ID != "A" || after):
				return nil, nil, fmt.Errorf("post-processor: a single text has the one sequence A")
			case piece.Sequence != nil:
				after = true
			case piece.SpecialToken != nil:
				special, ok := c.SpecialTokens[piece.SpecialToken.ID]
				if !ok {
					return nil, nil, fmt.Errorf("post-processor: special token %q is not described", piece.SpecialToken.ID)
				}
				if after {
					suffix = append(suffix, special.IDs...)
				} else {
					prefix = append(prefix, special.IDs...)
				}
			}
		}
		if !after {
			return nil, nil, fmt.Errorf("post-processor: the single template leaves the text out")
		}
		return prefix, suffix, nil
	case "RobertaProcessing", "BertProcessing":
		cls, err1 := tokenWithID(c.Cls)
		sep, err2 := tokenWithID(c.Sep)
		if err1 != nil || err2 != nil {
			return nil, nil, fmt.Errorf("post-processor %s: cls and sep have to be [token, id]", c.Type)
		}
		return []int32{cls}, []int32{sep}, nil
	case "Sequence":
		for _, raw := range c.Processors {
			p, s, err := parsePost(raw)
			if err != nil {
				return nil, nil, err
			}
			prefix = append(p, prefix...)
			suffix = append(suffix, s...)
		}
		return prefix, suffix, nil
	}
	return nil, nil, unsupported("post-processor", c.Type)
}

func tokenWithID(raw json.RawMessage) (int32, error) {
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
		return 0, fmt.Errorf("not a pair")
	}
	var id int32
	err := json.Unmarshal(pair[1], &id)
	return id, err
}
