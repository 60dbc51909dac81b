package contract_test

import (
	"errors"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// A zero that was written is a zero: it is used where it makes sense, and refused
// by its field's name where it does not. What is left out, or null, is a default.
func TestAZeroIsNotAnAbsentField(t *testing.T) {
	parse := func(config string) contract.Config {
		t.Helper()
		c, err := contract.ParseConfig([]byte(config), true)
		if err != nil {
			t.Fatal(err)
		}
		return c.WithDefaults()
	}
	zero := parse(`{"seed":0,"validation":{"max_missing_fraction":0},"evaluation":{"sample_answers":0},
		"training":{"dropout":0,"warmup_ratio":0,"weight_decay":0,"max_grad_norm":0,"load_best":false,"early_stopping_min_delta":0}}`)
	if faults := zero.Validate(); len(faults) > 0 {
		t.Errorf("zeros that make sense are refused: %v", faults)
	}
	if zero.Seed != 0 || zero.Validation.MaxMissingFraction != 0 || zero.Evaluation.SampleAnswers != 0 ||
		zero.Training.WarmupRatio != 0 || zero.Training.MaxGradNorm != 0 || zero.Training.LoadBest {
		t.Errorf("a zero became a default: %+v", zero)
	}
	for _, absent := range []string{``, `{}`, `{"seed":null,"training":null}`, `{"training":{"warmup_ratio":null,"load_best":null}}`} {
		c := parse(absent)
		if c.Seed != 42 || c.Training.WarmupRatio != 0.05 || c.Training.MaxGradNorm != 1 || !c.Training.LoadBest || c.Evaluation.SampleAnswers != 3 {
			t.Errorf("%s: %+v", absent, c)
		}
	}
	for _, field := range []string{
		"training.epochs", "training.max_steps", "training.batch_size", "training.gradient_accumulation", "training.rank", "training.alpha",
		"training.learning_rate", "training.checkpoint_steps", "training.logging_steps", "training.evaluations_per_epoch",
		"training.max_eval_samples", "training.early_stopping_patience", "preprocessing.max_length", "preprocessing.test_fraction",
		"preprocessing.validation_fraction", "evaluation.max_samples", "dataset.max_rows", "dataset.max_cell_bytes", "validation.max_classes",
	} {
		section, name := field[:len(field)-len(after(field))-1], after(field)
		faults := parse(`{"` + section + `":{"` + name + `":0}}`).Validate()
		if len(faults) != 1 || faults[0].Field != field {
			t.Errorf("%s=0: %v", field, faults)
		}
	}
	// Names in another case are the same fields, as encoding/json has it.
	if c := parse(`{"Seed":0,"TRAINING":{"Warmup_Ratio":0}}`); c.Seed != 0 || c.Training.WarmupRatio != 0 {
		t.Errorf("%+v", c)
	}
	if faults := parse(`{"training":{"target_modules":[]}}`).Validate(); len(faults) != 1 || faults[0].Field != "training.target_modules" {
		t.Errorf("no target modules: %v", faults)
	}
}

func after(field string) string {
	for i := range field {
		if field[i] == '.' {
			return field[i+1:]
		}
	}
	return field
}

func TestSettingsOfTheTrainingAreChecked(t *testing.T) {
	for config, field := range map[string]string{
		`{"training":{"base_precision":"fp4"}}`:                      "training.base_precision",
		`{"training":{"compute":"fp8"}}`:                             "training.compute",
		`{"training":{"method":"full","compute":"bf16"}}`:            "training.compute",
		`{"training":{"method":"full","base_precision":"int8"}}`:     "training.base_precision",
		`{"training":{"on_divergence":"panic"}}`:                     "training.on_divergence",
		`{"training":{"early_stopping_patience":-1}}`:                "training.early_stopping_patience",
		`{"training":{"early_stopping_min_delta":-0.5}}`:             "training.early_stopping_min_delta",
		`{"training":{"load_best":"yes"}}`:                           "training.load_best",
		`{"training":{"max_eval_samples":-3}}`:                       "training.max_eval_samples",
		`{"training":{"max_grad_norm":-1}}`:                          "training.max_grad_norm",
		`{"training":{"batch_size":100000,"base_precision":"int4"}}`: "training.batch_size",
	} {
		c, err := contract.ParseConfig([]byte(config), true)
		var fault contract.FieldError
		if err == nil {
			faults := c.WithDefaults().Validate()
			if len(faults) != 1 {
				t.Errorf("%s: %v", config, faults)
				continue
			}
			fault = faults[0]
		} else if !errors.As(err, &fault) {
			t.Fatal(err)
		}
		if fault.Field != field {
			t.Errorf("%s: %v", config, fault)
		}
	}
}
