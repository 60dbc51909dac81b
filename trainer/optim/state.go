package optim

import "fmt"

// Slot is one named slice of optimiser state: "exp_avg/<tensor>" or
// "exp_avg_sq/<tensor>", as long as the tensor.
type Slot struct {
	Name string
	Data []float32
}

// State is the whole state of an optimiser: what a checkpoint must hold, beside
// the weights, to resume bit for bit.
type State struct {
	Step  int64
	Slots []Slot
}

// State returns the optimiser's state. The slices are the live ones, not
// copies: write them out before the next Step.
func (o *AdamW) State() State {
	s := State{Step: o.step}
	for i, t := range o.tensors {
		s.Slots = append(s.Slots,
			Slot{Name: "exp_avg/" + t.Name, Data: o.m[i]},
			Slot{Name: "exp_avg_sq/" + t.Name, Data: o.v[i]})
	}
	return s
}

// Restore copies a state taken from an optimiser over the same tensors. It
// checks all names and lengths before it changes anything.
func (o *AdamW) Restore(s State) error {
	want := o.State()
	if s.Step < 0 {
		return fmt.Errorf("optim: restore: step %d is negative", s.Step)
	}
	byName := make(map[string][]float32, len(s.Slots))
	for _, slot := range s.Slots {
		byName[slot.Name] = slot.Data
	}
	if len(byName) != len(want.Slots) {
		return fmt.Errorf("optim: restore: the checkpoint holds %d slots, this run needs %d: was it written with other trainable tensors?", len(byName), len(want.Slots))
	}
	for _, slot := range want.Slots {
		data, ok := byName[slot.Name]
		if !ok {
			return fmt.Errorf("optim: restore: the checkpoint lacks %s", slot.Name)
		}
		if len(data) != len(slot.Data) {
			return fmt.Errorf("optim: restore: %s holds %d values, want %d", slot.Name, len(data), len(slot.Data))
		}
	}
	for _, slot := range want.Slots {
		copy(slot.Data, byName[slot.Name])
	}
	o.step = s.Step
	return nil
}
