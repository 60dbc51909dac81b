package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// KV is one entry of the metadata. Value is a uint8, int8, uint16, int16, uint32,
// int32, uint64, int64, float32, float64, bool or string, or a slice of one of
// them.
type KV struct {
	Key   string
	Value any
}

// Types of metadata values (gguf_metadata_value_type).
const (
	kindUint8 uint32 = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// kindSize is the least number of bytes that a value of a kind takes; a string has
// at least its length.
func kindSize(kind uint32) (int64, bool) {
	switch kind {
	case kindUint8, kindInt8, kindBool:
		return 1, true
	case kindUint16, kindInt16:
		return 2, true
	case kindUint32, kindInt32, kindFloat32:
		return 4, true
	case kindString, kindUint64, kindInt64, kindFloat64:
		return 8, true
	}
	return 0, false
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue writes the kind and the value.
func appendValue(b []byte, value any) ([]byte, error) {
	le := binary.LittleEndian
	kind := func(k uint32) []byte { return le.AppendUint32(b, k) }
	switch v := value.(type) {
	case uint8:
		return append(kind(kindUint8), v), nil
	case int8:
		return append(kind(kindInt8), byte(v)), nil
	case uint16:
		return le.AppendUint16(kind(kindUint16), v), nil
	case int16:
		return le.AppendUint16(kind(kindInt16), uint16(v)), nil
	case uint32:
		return le.AppendUint32(kind(kindUint32), v), nil
	case int32:
		return le.AppendUint32(kind(kindInt32), uint32(v)), nil
	case uint64:
		return le.AppendUint64(kind(kindUint64), v), nil
	case int64:
		return le.AppendUint64(kind(kindInt64), uint64(v)), nil
	case float32:
		return le.AppendUint32(kind(kindFloat32), math.Float32bits(v)), nil
	case float64:
		return le.AppendUint64(kind(kindFloat64), math.Float64bits(v)), nil
	case bool:
		return appendBool(kind(kindBool), v), nil
	case string:
		return appendString(kind(kindString), v), nil
	case []uint8:
		return append(arrayHead(b, kindUint8, len(v)), v...), nil
	case []int8:
		return appendArray(b, kindInt8, v, func(b []byte, x int8) []byte { return append(b, byte(x)) }), nil
	case []uint16:
		return appendArray(b, kindUint16, v, le.AppendUint16), nil
	case []int16:
		return appendArray(b, kindInt16, v, func(b []byte, x int16) []byte { return le.AppendUint16(b, uint16(x)) }), nil
	case []uint32:
		return appendArray(b, kindUint32, v, le.AppendUint32), nil
	case []int32:
		return appendArray(b, kindInt32, v, func(b []byte, x int32) []byte { return le.AppendUint32(b, uint32(x)) }), nil
	case []uint64:
		return appendArray(b, kindUint64, v, le.AppendUint64), nil
	case []int64:
		return appendArray(b, kindInt64, v, func(b []byte, x int64) []byte { return le.AppendUint64(b, uint64(x)) }), nil
	case []float32:
		return appendArray(b, kindFloat32, v, func(b []byte, x float32) []byte { return le.AppendUint32(b, math.Float32bits(x)) }), nil
	case []float64:
		return appendArray(b, kindFloat64, v, func(b []byte, x float64) []byte { return le.AppendUint64(b, math.Float64bits(x)) }), nil
	case []bool:
		return appendArray(b, kindBool, v, appendBool), nil
	case []string:
		return appendArray(b, kindString, v, appendString), nil
	}
	return nil, fmt.Errorf("a value of type %T cannot be written", value)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func arrayHead(b []byte, kind uint32, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, kindArray)
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

func appendArray[T any](b []byte, kind uint32, values []T, put func([]byte, T) []byte) []byte {
	b = arrayHead(b, kind, len(values))
	for _, v := range values {
		b = put(b, v)
	}
	return b
}
