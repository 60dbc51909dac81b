package preprocessing

import (
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// mostLabels is how many labels the default instruction names: beyond that the
// list would take more tokens than the text.
const mostLabels = 40

// prompter puts an example into words.
type prompter struct {
	task        string
	model       *baseModel
	labels      []string
	instruction string // from the config
}

// newPrompter settles the instruction.
func newPrompter(c contract.Config, m *baseModel, s *survey) *prompter {
	p := &prompter{task: c.Task, model: m, labels: s.labels(), instruction: c.Instruction}
	if p.instruction == "" && len(p.labels) > mostLabels {
		p.instruction = manyLabels
	}
	return p
}

// segments gives the text of an example with what of it is learnt.
func (p *prompter) segments(r *records.Record, target string) ([]template.Segment, error) {
	if p.task == "completion" {
		prompt := r.Input
		if p.instruction != "" {
			prompt = p.instruction + "\n\n" + prompt
		}
		if prompt != "" && !strings.HasSuffix(prompt, "\n") {
			// The completion starts a word of its own.
			target = " " + target
		}
		return template.Completion(prompt, target, p.model.eos), nil
	}
	return p.model.template.Render(p.messages(r, target))
}

// messages is the conversation of an example.
func (p *prompter) messages(r *records.Record, target string) []template.Message {
	switch {
	case len(r.Messages) > 0:
		return p.conversation(r)
	case p.task == "chat":
		question := r.Input
		if r.Context != "" {
			question += "\n\n" + r.Context
		}
		turns := []template.Message{{Role: template.RoleUser, Content: question}, {Role: template.RoleAssistant, Content: target}}
		if p.instruction != "" {
			turns = append([]template.Message{{Role: template.RoleSystem, Content: p.instruction}}, turns...)
		}
		return turns
	case p.instruction != "":
		return []template.Message{
			{Role: template.RoleUser, Content: p.instruction + "\n\n" + p.body(r)},
			{Role: template.RoleAssistant, Content: target},
		}
	}
	switch p.task {
	case "summarization":
		return template.Summarization(r.Input, target)
	case "qa":
		return template.QA(r.Context, r.Input, target)
	case "extraction":
		return template.Extraction(r.Input, nil, target)
	}
	return template.Classification(r.Input, p.labels, target)
}

func (p *prompter) conversation(r *records.Record) []template.Message {
	var turns []template.Message
	if p.instruction != "" && r.Messages[0].Role != template.RoleSystem {
		turns = append(turns, template.Message{Role: template.RoleSystem, Content: p.instruction})
	}
	for _, m := range r.Messages {
		turns = append(turns, template.Message{Role: m.Role, Content: m.Content})
	}
	return turns
}

// body is what stands below an instruction of the user's own, as package template
// has it below its own ones.
func (p *prompter) body(r *records.Record) string {
	switch {
	case p.task == "qa" && r.Context != "":
		return "Context: " + r.Context + "\n\nQuestion: " + r.Input
	case p.task == "qa":
		return "Question: " + r.Input
	}
	return "Text: " + r.Input
}

// effective is the instruction that is used, the default one included.
func (p *prompter) effective() string {
	if p.instruction != "" || p.task == "completion" || p.task == "chat" {
		return p.instruction
	}
	text := p.messages(&records.Record{Input: "x"}, "")[0].Content
	if at := strings.LastIndex(text, "\n\n"); at >= 0 {
		return text[:at]
	}
	return text
}

// manyLabels is the instruction of a classification with more labels than can be
// named.
const manyLabels = "Classify the text. Answer with its label and nothing else."
