package evaluation

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

// material is everything that both models are measured with.
type material struct {
	config  contract.Config
	summary sample.Summary
	shape   model.Config
	tok     *tokenizer.Tokenizer
	stop    []int32
	split   string
	samples []sample.Sample
	leftOut int // samples without room for the longest label

	labels [][]int32 // classification: each label's tokens with the end of the turn
	truth  []int     // classification: each sample's label
}

func gather(in contract.Input, c contract.Config, files tuned.Files, emit *contract.Emitter) (*material, error) {
	m := &material{config: c}
	if err := in.Previous(sample.OutputKey, &m.summary); err != nil {
		return nil, err
	}
	var err error
	if m.shape, err = tuned.Config(files.Base); err != nil {
		return nil, err
	}
	var sum string
	if m.tok, sum, err = tuned.Tokenizer(files.Base); err != nil {
		return nil, err
	}
	if want := m.summary.TokenizerSHA256; want != "" && want != sum {
		return nil, &contract.Error{Class: contract.ClassConfig, Code: "TOKENIZER_MISMATCH", Field: "model",
			Message: fmt.Sprintf("the samples were made with the tokenizer %.12s…, the base model has %.12s…", want, sum), Hint: "run preprocessing again with this model"}
	}
	if err := m.readSamples(in, emit); err != nil {
		return nil, err
	}
	var tmpl *template.Template
	_, eos, err := template.Source(files.Base)
	if err != nil {
		return nil, tuned.Unusable(err)
	}
	if m.summary.Template != "" {
		if tmpl, err = template.Open(files.Base, m.summary.Template); err != nil {
			return nil, tuned.Unusable(err)
		}
	}
	m.stop = tuned.Stops(m.tok, m.shape, tmpl, eos)
	if m.summary.Task == "classification" {
		if tmpl == nil {
			return nil, fmt.Errorf("preprocessing names no template for a classification")
		}
		if err := m.encodeLabels(tmpl); err != nil {
			return nil, err
		}
		return m, m.makeRoom(emit)
	}
	return m, nil
}

// readSamples reads the test split. Without one it takes a split that training has
// seen, and says so.
func (m *material) readSamples(in contract.Input, emit *contract.Emitter) error {
	var missing error
	for _, name := range []string{sample.TestFile, sample.ValidationFile, sample.TrainFile} {
		f, err := in.FindName(name)
		if err != nil {
			if missing == nil {
				missing = err
			}
			continue
		}
		if m.samples, err = sample.ReadFile(f.Path, 0); err != nil {
			return err
		}
		if len(m.samples) == 0 {
			continue
		}
		m.split = name
		if name != sample.TestFile {
			emit.Warn("NO_HELD_OUT", fmt.Sprintf("there is no test sample: the figures are from %s, which training has seen, and say little about new data", name),
				map[string]any{"split": name, "hint": "add data, or raise preprocessing.test_fraction"})
		}
		m.thin()
		return m.check()
	}
	if missing != nil {
		return missing
	}
	return &contract.Error{Class: contract.ClassBadInput, Code: "NO_SAMPLES", Message: "all splits are empty: there is nothing to evaluate with", Hint: "add data"}
}

// thin keeps as many samples as the config asks for, at random but always the same.
func (m *material) thin() {
	n := m.config.Evaluation.MaxSamples
	if n == 0 || n >= len(m.samples) {
		return
	}
	keep := rand.New(rand.NewPCG(m.config.Seed, 0x74657374)).Perm(len(m.samples))[:n]
	slices.Sort(keep)
	for i, k := range keep {
		m.samples[i] = m.samples[k]
	}
	m.samples = m.samples[:n]
}

func (m *material) check() error {
	for i := range m.samples {
		s := &m.samples[i]
		err := s.Check()
		switch {
		case err != nil:
		case len(s.Loss) == 0:
			err = fmt.Errorf("no token carries loss")
		case s.PromptTokens >= len(s.Tokens) || s.PromptTokens < 1 && m.summary.Task != "completion":
			err = fmt.Errorf("%d of %d tokens are the prompt", s.PromptTokens, len(s.Tokens))
		case len(s.Tokens) > m.shape.MaxPositions:
			err = fmt.Errorf("%d tokens are more than the model's context of %d", len(s.Tokens), m.shape.MaxPositions)
		}
		if err != nil {
			return &contract.Error{Class: contract.ClassBadInput, Code: "BAD_SAMPLE", File: m.split, Row: s.Row, Message: err.Error()}
		}
	}
	return nil
}

// completion is the part of a sample that the model shall write after the prompt.
func completion(s *sample.Sample) []int32 {
	return s.Tokens[s.PromptTokens:s.Loss[len(s.Loss)-1][1]]
}

// encodeLabels puts the labels into tokens as preprocessing did, and makes sure of
// it by the samples.
func (m *material) encodeLabels(tmpl *template.Template) error {
	index := make(map[string]int, len(m.summary.Labels))
	for i, label := range m.summary.Labels {
		segments, err := tmpl.Render([]template.Message{{Role: template.RoleUser, Content: "x"}, {Role: template.RoleAssistant, Content: label}})
		if err != nil {
			return fmt.Errorf("label %q: %w", label, err)
		}
		tokens, learnt := template.Tokens(m.tok, segments)
		var ids []int32
		for j, id := range tokens {
			if learnt[j] {
				ids = append(ids, id)
			}
		}
		index[label] = i
		m.labels = append(m.labels, ids)
	}
	for i := range m.samples {
		s := &m.samples[i]
		label, ok := index[s.Target]
		if !ok {
			return &contract.Error{Class: contract.ClassBadInput, Code: "UNKNOWN_LABEL", File: m.split, Row: s.Row, Message: fmt.Sprintf("the label %q is none of those that preprocessing found", s.Target)}
		}
		if !slices.Equal(completion(s), m.labels[label]) {
			return &contract.Error{Class: contract.ClassInternal, Code: "LABEL_TOKENS", File: m.split, Row: s.Row, Message: fmt.Sprintf("the label %q has tokens %v in the sample, but %v by tokenizer and template", s.Target, completion(s), m.labels[label])}
		}
		m.truth = append(m.truth, label)
	}
	return nil
}
