package dataset

import (
	"slices"
	"strings"
	"unicode"
)

// hints are the names that people give to the column of a role; strong ones say
// it outright, weak ones may mean something else.
type hints struct {
	strong, weak []string
}

var textNames = hints{
	strong: []string{"text", "body", "message", "content", "description", "sentence", "review", "comment", "utterance", "query", "question", "prompt", "input", "tweet", "document", "ticket", "post", "complaint"},
	weak:   []string{"subject", "title", "summary", "note", "notes", "details", "feedback", "headline", "transcript", "abstract", "answer"},
}

// taskHints gives the hints of a task's input and target.
func taskHints(task string) (input, target hints) {
	switch task {
	case "qa":
		return hints{[]string{"question", "query"}, []string{"prompt", "input", "instruction", "text"}},
			hints{[]string{"answer", "answers", "response", "reply"}, []string{"output", "target", "completion", "label"}}
	case "summarization":
		return hints{[]string{"document", "article", "text", "body", "content", "dialogue", "transcript", "report"}, []string{"input", "source", "prompt", "description", "story"}},
			hints{[]string{"summary", "highlights", "abstract", "tldr"}, []string{"headline", "title", "target", "output", "short"}}
	case "extraction":
		return textNames,
			hints{[]string{"output", "target", "json", "extraction", "extracted", "entities", "fields"}, []string{"answer", "label", "labels", "result", "response"}}
	case "chat":
		return hints{[]string{"instruction", "prompt", "question", "user", "human", "query"}, []string{"input", "message", "text", "request"}},
			hints{[]string{"response", "answer", "output", "completion", "assistant", "reply"}, []string{"chosen", "target", "gpt", "bot"}}
	case "completion":
		return hints{[]string{"prompt", "prefix"}, []string{"input", "context", "question", "instruction"}},
			hints{[]string{"completion", "text", "output", "response", "content"}, []string{"target", "answer", "body", "continuation"}}
	}
	return textNames,
		hints{[]string{"label", "category", "class", "target", "intent", "sentiment", "topic"}, []string{"type", "tag", "group", "output", "department", "genre", "emotion", "answer", "y"}}
}

// beside are words in the name of a column that describes a row and is neither
// its text nor its label.
var beside = []string{"id", "uuid", "guid", "key", "hash", "url", "link", "date", "time", "timestamp", "created", "updated", "at", "name", "customer", "user", "author", "email", "phone", "address", "lang", "language", "locale", "channel", "source", "country", "city", "version", "index", "row", "number", "no", "count", "split", "ip", "file", "path"}

// score is how well a column's name fits: 1 strong, 0.5 weak, less if only a word
// of it fits, below 0 for a column that stands beside.
func (h hints) score(name string) float64 {
	words := nameWords(name)
	whole := strings.Join(words, "")
	switch {
	case slices.Contains(h.strong, whole):
		return 1
	case slices.Contains(h.weak, whole):
		return 0.5
	}
	best := 0.0
	for _, w := range words {
		switch {
		case slices.Contains(h.strong, w):
			best = max(best, 0.7)
		case slices.Contains(h.weak, w):
			best = max(best, 0.35)
		}
	}
	for _, w := range words {
		if slices.Contains(beside, w) {
			best -= 0.7 // ticket_id, message_date
			break
		}
	}
	return best
}

// nameWords splits ticket_body, ticketBody and "Ticket body" into lower-case words.
func nameWords(name string) []string {
	var words []string
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = nil
		}
	}
	lower := false
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			flush()
		}
		lower = unicode.IsLower(r)
		word = append(word, r)
	}
	flush()
	return words
}
