package invariant

import (
	"fmt"

	"github.com/tunemesh/tunemesh/api"
)

// AttemptFaults says what of a job and its attempts breaks I2 or I3: at most one
// attempt of a stage is accepted, it is the last, and none goes on after its
// job's end.
func AttemptFaults(d api.JobDetail, attempts []api.Attempt) []string {
	var faults []string
	for _, s := range d.Stages {
		var accepted []uint64
		var last uint64
		for _, a := range attempts {
			if a.Stage != s.Name {
				continue
			}
			last = max(last, a.Fence)
			if a.State == api.AttemptSucceeded {
				accepted = append(accepted, a.Fence)
			}
			if d.State.Terminal() && !a.State.Terminal() {
				faults = append(faults, fmt.Sprintf("I2: job %s is %s and its attempt %d is %s", d.ID, d.State, a.Fence, a.State))
			}
		}
		switch {
		case len(accepted) > 1:
			faults = append(faults, fmt.Sprintf("I3: stage %s of %s has %d accepted attempts: %v", s.Name, d.ID, len(accepted), accepted))
		case s.State == api.StageSucceeded && (len(accepted) != 1 || accepted[0] != last || s.Fence != last):
			faults = append(faults, fmt.Sprintf("I3: stage %s of %s succeeded with fence %d, accepted are %v, the last is %d", s.Name, d.ID, s.Fence, accepted, last))
		case s.State != api.StageSucceeded && len(accepted) > 0:
			faults = append(faults, fmt.Sprintf("I3: stage %s of %s is %s, but attempt %d was accepted", s.Name, d.ID, s.State, accepted[0]))
		}
	}
	return faults
}
