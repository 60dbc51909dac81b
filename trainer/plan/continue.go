package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// allLinear is the name of all modules together.
const allLinear = "all-linear"

// Continue settles what a training that goes on from an adapter has from it: rank,
// alpha, rsLoRA and target modules, which the values were trained with and mean
// nothing without. c has its defaults; document is the adapter_config.json. Where
// the job gives one of them and contradicts the adapter, the *contract.Error names
// the field and both values. Dropout is a matter of each training and stays.
func Continue(c contract.Config, document []byte) (contract.TrainingConfig, []Setting, error) {
	a, err := adapter.ParseConfig(document)
	if err != nil {
		return c.Training, nil, refused("training.init_adapter", err.Error())
	}
	targets, err := modules(a.TargetModules)
	if err != nil {
		return c.Training, nil, refused("training.init_adapter", "the adapter's target_modules: "+err.Error())
	}
	wanted, err := modules(c.Training.TargetModules)
	if err != nil {
		return c.Training, nil, refused("training.target_modules", err.Error())
	}
	t := c.Training
	var settings []Setting
	for _, s := range []struct {
		field, job, adapter string
		same                bool
	}{
		{"training.rank", strconv.Itoa(t.Rank), strconv.Itoa(a.Rank), t.Rank == a.Rank},
		{"training.alpha", number(t.Alpha), number(a.Alpha), t.Alpha == a.Alpha},
		{"training.use_rslora", strconv.FormatBool(t.RSLoRA), strconv.FormatBool(a.UseRSLoRA), t.RSLoRA == a.UseRSLoRA},
		{"training.target_modules", strings.Join(wanted, ","), strings.Join(targets, ","), slices.Equal(wanted, targets)},
	} {
		if !c.Given(s.field) {
			settings = append(settings, Setting{Field: s.field, Value: s.adapter, Reason: "of the adapter that is continued"})
		} else if !s.same {
			return c.Training, nil, refused(s.field, fmt.Sprintf("is %s, but the adapter to go on from was trained with %s", s.job, s.adapter))
		}
	}
	t.Rank, t.Alpha, t.RSLoRA, t.TargetModules = a.Rank, a.Alpha, a.UseRSLoRA, targets
	return t, settings, nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// modules names a choice of modules in one way: those of the contract, in its
// order, or all-linear where it is all of them.
func modules(names []string) ([]string, error) {
	if slices.Equal(names, []string{allLinear}) {
		return names, nil
	}
	for _, name := range names {
		if !slices.Contains(contract.TargetModules, name) {
			return nil, fmt.Errorf("%q is none of %s", name, strings.Join(contract.TargetModules, ", "))
		}
	}
	var list []string
	for _, name := range contract.TargetModules {
		if slices.Contains(names, name) {
			list = append(list, name)
		}
	}
	if len(list) == len(contract.TargetModules) {
		return []string{allLinear}, nil
	}
	return list, nil
}

func refused(field, message string) *contract.Error {
	return &contract.Error{
		Class: contract.ClassConfig, Code: "ADAPTER_MISMATCH", Field: field, Message: message,
		Hint: "leave rank, alpha, use_rslora and target_modules out: they are then the adapter's; or begin a new adapter, without training.init_adapter",
	}
}
