package sample

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// decodeFast decodes a line exactly as Append lays it out, several times faster
// than encoding/json. It returns false, with s in any state, on everything else.
func decodeFast(line []byte, s *Sample) bool {
	d := decoder{rest: line, ok: true}
	d.literal(`{"row":`)
	s.Row = d.integer()
	d.literal(`,"input":`)
	s.Input = d.text()
	d.literal(`,"target":`)
	s.Target = d.text()
	d.literal(`,"tokens":[`)
	s.Tokens = s.Tokens[:0]
	for d.ok && !d.literalIf(']') {
		if len(s.Tokens) > 0 {
			d.literal(`,`)
		}
		t := d.integer()
		if t != int64(int32(t)) {
			return false
		}
		s.Tokens = append(s.Tokens, int32(t))
	}
	d.literal(`,"loss":[`)
	s.Loss = s.Loss[:0]
	for d.ok && !d.literalIf(']') {
		if len(s.Loss) > 0 {
			d.literal(`,`)
		}
		d.literal(`[`)
		from := d.integer()
		d.literal(`,`)
		to := d.integer()
		d.literal(`]`)
		s.Loss = append(s.Loss, [2]int{int(from), int(to)})
	}
	d.literal(`,"prompt_tokens":`)
	s.PromptTokens = int(d.integer())
	d.literal(`}`)
	return d.ok && len(d.rest) == 0
}

// decoder eats a line from the left; ok turns false at the first surprise.
type decoder struct {
	rest []byte
	ok   bool
}

func (d *decoder) literal(want string) {
	if len(d.rest) < len(want) || string(d.rest[:len(want)]) != want {
		d.ok = false
		return
	}
	d.rest = d.rest[len(want):]
}

func (d *decoder) literalIf(c byte) bool {
	if len(d.rest) == 0 || d.rest[0] != c {
		return false
	}
	d.rest = d.rest[1:]
	return true
}

func (d *decoder) integer() int64 {
	var n int64
	i := 0
	negative := len(d.rest) > 0 && d.rest[0] == '-'
	if negative {
		i++
	}
	from := i
	for i < len(d.rest) && d.rest[i] >= '0' && d.rest[i] <= '9' {
		n = n*10 + int64(d.rest[i]-'0')
		i++
	}
	// 18 digits fit; a leading zero is no JSON number.
	if i == from || i-from > 18 || (d.rest[from] == '0' && i-from > 1) {
		d.ok = false
	}
	d.rest = d.rest[i:]
	if negative {
		return -n
	}
	return n
}

func (d *decoder) text() string {
	if !d.literalIf('"') {
		d.ok = false
		return ""
	}
	end := 0
	for {
		i := bytes.IndexByte(d.rest[end:], '"')
		if i < 0 {
			d.ok = false
			return ""
		}
		end += i
		slashes := 0
		for end-slashes > 0 && d.rest[end-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			break
		}
		end++
	}
	raw := d.rest[:end]
	d.rest = d.rest[end+1:]
	plain := utf8.Valid(raw)
	for _, c := range raw {
		plain = plain && c != '\\' && c >= ' '
	}
	if plain {
		return string(raw)
	}
	var s string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &s) != nil {
		d.ok = false
	}
	return s
}
