package sentencepiece

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Kind of a piece.
type Kind int

// The kinds (ModelProto.SentencePiece.Type).
const (
	Normal      Kind = 1
	Unknown     Kind = 2
	Control     Kind = 3 // never comes out of a text: <s>, </s>
	UserDefined Kind = 4 // always one token, whatever the scores
	Unused      Kind = 5
	Byte        Kind = 6 // <0x00> to <0xFF>
)

// Piece is one token.
type Piece struct {
	Text  string
	Score float32
	Kind  Kind
}

// Model is a tokenizer.model.
type Model struct {
	Pieces       []Piece // by id
	Unigram      bool    // else BPE
	ByteFallback bool    // characters without a piece are spelled in bytes
	DummyPrefix  bool    // a space goes before each text
	RemoveSpaces bool    // spaces at the ends go, and runs of them become one
	Normalizer   string  // name of the normalization, for people: identity, nmt_nfkc, ...
	Charsmap     []byte  // how to do it (see package tokenizer); empty: nothing
	Unk, BOS     int32   // ids, -1 where there is none
	EOS, Pad     int32
}

// maxPieces bounds the vocabulary, as package tokenizer does.
const maxPieces = 1 << 22

// Read reads the bytes of a tokenizer.model. What it asks for beyond BPE and Unigram on
// escaped spaces is refused.
func Read(data []byte) (*Model, error) {
	m := &Model{DummyPrefix: true, RemoveSpaces: true, BOS: 1, EOS: 2, Pad: -1} // the proto's defaults
	kind, escape, suffix, denormalized := uint64(1), true, false, false
	err := fields(data, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			p, err := readPiece(v.bytes)
			if err == nil && len(m.Pieces) == maxPieces {
				err = fmt.Errorf("more than %d pieces", maxPieces)
			}
			m.Pieces = append(m.Pieces, p)
			return err
		case 2:
			return fields(v.bytes, func(n protowire.Number, v value) error {
				switch n {
				case 3:
					kind = v.number
				case 24:
					suffix = v.number != 0
				case 35:
					m.ByteFallback = v.number != 0
				case 40:
					m.Unk = int32(v.number)
				case 41:
					m.BOS = int32(v.number)
				case 42:
					m.EOS = int32(v.number)
				case 43:
					m.Pad = int32(v.number)
				}
				return nil
			})
		case 3:
			return fields(v.bytes, func(n protowire.Number, v value) error {
				switch n {
				case 1:
					m.Normalizer = string(v.bytes)
				case 2:
					m.Charsmap = v.bytes
				case 3:
					m.DummyPrefix = v.number != 0
				case 4:
					m.RemoveSpaces = v.number != 0
				case 5:
					escape = v.number != 0
				}
				return nil
			})
		case 5:
			return fields(v.bytes, func(n protowire.Number, v value) error {
				denormalized = denormalized || n == 2 && len(v.bytes) > 0
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sentencepiece: %w", err)
	}
	switch m.Unigram = kind == 1; {
	case len(m.Pieces) == 0:
		err = errors.New("no pieces: it is no tokenizer.model")
	case kind != 1 && kind != 2:
		err = fmt.Errorf("model type %d; read are 1 (unigram) and 2 (bpe)", kind)
	case !escape || suffix:
		err = errors.New("spaces are not marked at the beginning of words, which is not supported")
	case denormalized:
		err = errors.New("its texts are denormalized after decoding, which is not supported")
	default:
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("sentencepiece: %w", err)
	}
	return m, nil
}

// check makes sure of what the rest relies on.
func (m *Model) check() error {
	seen := make(map[string]int, len(m.Pieces))
	unknown := int32(-1)
	for id, p := range m.Pieces {
		if p.Text == "" || !utf8.ValidString(p.Text) {
			return fmt.Errorf("piece %d is %q: empty, or no UTF-8", id, p.Text)
		}
		if have, dup := seen[p.Text]; dup {
			return fmt.Errorf("pieces %d and %d are both %q", have, id, p.Text)
		}
		if f := float64(p.Score); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("piece %d has no finite score", id)
		}
		seen[p.Text] = id
		if p.Kind == Unknown {
			unknown = int32(id)
		}
	}
	m.Unk = unknown // as the library finds it
	for _, id := range []*int32{&m.BOS, &m.EOS, &m.Pad} {
		if *id < -1 || int(*id) >= len(m.Pieces) || *id >= 0 && m.Pieces[*id].Kind != Control && m.Pieces[*id].Kind != Unknown && m.Pieces[*id].Kind != UserDefined {
			*id = -1
		}
	}
	return nil
}

func readPiece(data []byte) (Piece, error) {
	p := Piece{Kind: Normal}
	err := fields(data, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			p.Text = string(v.bytes)
		case 2:
			p.Score = math.Float32frombits(uint32(v.number))
		case 3:
			p.Kind = Kind(v.number)
		}
		return nil
	})
	return p, err
}

// value is a field's: a number, or the bytes of a text or a message.
type value struct {
	number uint64
	bytes  []byte
}

// fields calls f for each field of a message.
func fields(data []byte, f func(protowire.Number, value) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var v value
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(data)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(data)
			v.number = uint64(x)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(data)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := f(number, v); err != nil {
			return err
		}
	}
	return nil
}
