package events

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/api"
)

// A segment is a file of lines
//
//	CCCCCCCC SOURCE NUMBER JSON\n
//
// where C is the CRC-32C (Castagnoli, RFC 3720) of everything behind it up to
// the line's end, in hex. The first line is the header, with the source # and
// the number of the segment's first event; its JSON holds the last number of
// each source in all segments before, so that opening a log reads one segment.
// The numbers of a source rise by one, or by more where an event is a gap.
const headerSource = "#"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the JSON of a segment's first line.
type header struct {
	Version int               `json:"version"`
	Sources map[string]uint64 `json:"sources"`
	Life    string            `json:"life,omitempty"`
	// Seed is the number up to which the job was archived when this stream began
	// after it.
	Seed uint64 `json:"seed,omitempty"`
}

// record is one event's line; json is a part of the segment's bytes.
type record struct {
	source string
	number uint64
	json   []byte
	offset int64 // of the line in its segment
}

// appendLine appends a framed line to b.
func appendLine(b []byte, source string, number uint64, data []byte) []byte {
	start := len(b)
	b = append(b, "00000000 "...)
	b = append(b, source...)
	b = append(b, ' ')
	b = strconv.AppendUint(b, number, 10)
	b = append(b, ' ')
	b = append(b, data...)
	sum := crc32.Checksum(b[start+9:], castagnoli)
	hex.Encode(b[start:start+8], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return append(b, '\n')
}

// parseLine reads one line without its newline.
func parseLine(line []byte) (r record, ok bool) {
	if len(line) < 9 || line[8] != ' ' {
		return r, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:8]); err != nil {
		return r, false
	}
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	if crc32.Checksum(line[9:], castagnoli) != want {
		return r, false
	}
	source, rest, ok1 := bytes.Cut(line[9:], []byte(" "))
	number, data, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 {
		return r, false
	}
	n, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return r, false
	}
	return record{source: string(source), number: n, json: data}, true
}

// segmentData is a parsed segment.
type segmentData struct {
	base    uint64 // number of the first event
	life    string
	seed    uint64
	sources map[string]uint64
	records []record
	good    int64 // bytes up to the end of the last whole line
}

// parseSegment reads a segment up to its first line that is torn, damaged or
// out of sequence. It returns an error only where not even the header is whole.
func parseSegment(data []byte) (segmentData, error) {
	var s segmentData
	line, rest, whole := bytes.Cut(data, []byte("\n"))
	head, ok := parseLine(line)
	var h header
	if !whole || !ok || head.source != headerSource || head.number == 0 || json.Unmarshal(head.json, &h) != nil || h.Version != 1 {
		return s, fmt.Errorf("events: the segment's header is damaged")
	}
	s.base = head.number
	s.sources, s.life, s.seed = h.Sources, h.Life, h.Seed
	if s.sources == nil {
		s.sources = map[string]uint64{}
	}
	s.good = int64(len(line) + 1)
	for len(rest) > 0 {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		r, ok := parseLine(line)
		if !whole || !ok || r.number <= s.sources[r.source] || !sourceName.MatchString(r.source) {
			return s, nil
		}
		r.offset = s.good
		s.sources[r.source] = r.number
		s.records = append(s.records, r)
		s.good += int64(len(line) + 1)
		rest = after
	}
	return s, nil
}

// encodeEvent returns an event's JSON, made to fit where it is too large.
func encodeEvent(e api.Event) ([]byte, api.Event, error) {
	data, err := json.Marshal(e)
	if err != nil {
		// A NaN loss or broken fields: keep the words.
		e = bare(e, err.Error())
		if data, err = json.Marshal(e); err != nil {
			return nil, e, fmt.Errorf("events: encode event %d: %w", e.Seq, err)
		}
	}
	if len(data) > MaxEvent {
		e = bare(e, fmt.Sprintf("the event has %d bytes, at most %d are kept", len(data), MaxEvent))
		if data, err = json.Marshal(e); err != nil {
			return nil, e, fmt.Errorf("events: encode event %d: %w", e.Seq, err)
		}
	}
	return data, e, nil
}

// maxCut is how many bytes stay of each text of an event that does not fit.
const maxCut = 4096

func bare(e api.Event, why string) api.Event {
	fields, _ := json.Marshal(map[string]string{"cut": why})
	return api.Event{
		Seq: e.Seq, RunID: e.RunID, Timestamp: e.Timestamp, Level: cut(e.Level), Agent: cut(e.Agent), Stage: cut(e.Stage),
		Attempt: e.Attempt, Fence: e.Fence, Node: cut(e.Node), SourceSeq: e.SourceSeq,
		Gap: e.Gap, Message: cut(e.Message), ErrorCode: cut(e.ErrorCode), Checkpoint: cut(e.Checkpoint),
		From: cut(e.From), To: cut(e.To), Fields: fields,
	}
}

// cut shortens a text to maxCut bytes without splitting a character.
func cut(s string) string {
	if len(s) <= maxCut {
		return s
	}
	end := maxCut
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
