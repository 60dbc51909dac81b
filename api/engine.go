package api

import "slices"

// RunsEngine says whether the node can run an engine. One that computes on
// accelerators must know one of the node's if the stage reserves it; native uses
// the CPU in any case, and an engine that names no devices is taken at its word.
func (c Capability) RunsEngine(name string, accelerated bool) bool {
	return slices.ContainsFunc(c.Engines, func(e Engine) bool {
		return e.Name == name && e.Available &&
			(!accelerated || name == "native" || len(e.Devices) == 0 || slices.ContainsFunc(e.Devices, func(d string) bool { return d != "cpu" }))
	})
}
