package peft_test

import "testing"

// Two workers, each with half of every batch, make the losses and the adapter of one
// that has all of it: gradients are summed over both before an update.
func TestWorkersMakeTheLossesOfOne(t *testing.T) {
	installed(t)
	one := job(t, llama(), config("peft", ""))
	_, want := run(t, one)
	for name, more := range map[string]string{
		"replicated": `"workers":2,`,
		"sharded":    `"workers":2,"sharding":"fsdp",`,
	} {
		t.Run(name, func(t *testing.T) {
			in := job(t, llama(), config("peft", more))
			_, log := run(t, in)
			compare(t, want, log)
			if d := difference(t, values(t, one), values(t, in)); d > 1e-4 {
				t.Errorf("the adapters differ by %g", d)
			}
			sameFiles(t, one.OutputDir, in.OutputDir)
			gone(t, in.ScratchDir)
		})
	}
}
