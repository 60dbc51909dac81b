package template

import "errors"

// Message is one turn of a conversation. Role is system, user or assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Segment is a piece of rendered text. Loss is set on what the model shall learn
// to write: the assistant's content and the end of its turn.
type Segment struct {
	Text string
	Loss bool
}

// Template is one of the builtin chat templates, bound to a model's end token.
type Template struct{}

// Names lists the builtin templates: alpaca, chatml, llama, zephyr.
func Names() []string { return nil }

// ByName gives a builtin template. eos is the model's end-of-sequence token
// ("</s>", "<|endoftext|>"); alpaca and zephyr end a turn with it, the others
// ignore it.
func ByName(name, eos string) (*Template, error) { return nil, errors.New("template: not built yet") }

// ForModel gives the template of the Hugging Face folder dir: chatml if it has no
// chat_template; a chat_template that is byte for byte the Jinja of a builtin is
// that builtin; any other is refused.
func ForModel(dir string) (*Template, error) { return nil, errors.New("template: not built yet") }

// Name is the builtin's name.
func (t *Template) Name() string { return "" }

// Render gives a whole conversation, to train on.
func (t *Template) Render(messages []Message) ([]Segment, error) { return nil, nil }

// Prompt gives a conversation up to the point where the assistant shall answer.
func (t *Template) Prompt(messages []Message) (string, error) { return "", nil }

// Stop lists the strings at which generation ends.
func (t *Template) Stop() []string { return nil }

// Jinja is the same template as a Hugging Face chat_template.
func (t *Template) Jinja() string { return "" }

// Ollama is the same template as the TEMPLATE of an Ollama Modelfile.
func (t *Template) Ollama() string { return "" }

// Encoder is what Tokens needs of a tokenizer; *tokenizer.Tokenizer is one.
type Encoder interface {
	Encode(text string, addSpecial bool) []int32
	Prefix() []int32
}

// Tokens encodes segments one by one, as a server encodes the prompt apart from
// the answer, after the tokenizer's prefix (bos). loss[i] says whether ids[i] is
// a token to learn.
func Tokens(enc Encoder, segments []Segment) (ids []int32, loss []bool) { return nil, nil }

// Completion is the raw task without a chat: the prompt as it is, then the
// completion with its end token, which are learned.
func Completion(prompt, completion, eos string) []Segment { return nil }

// Classification asks for one of labels; with label "" only the question is made.
func Classification(text string, labels []string, label string) []Message { return nil }

// Summarization asks for a summary of text.
func Summarization(text, summary string) []Message { return nil }

// QA asks a question about a context, which may be "".
func QA(context, question, answer string) []Message { return nil }

// Extraction asks for the named fields of text as JSON.
func Extraction(text string, fields []string, answer string) []Message { return nil }
