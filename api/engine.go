package api

import (
	"slices"
	"strings"
)

// RunsEngine says whether the node can run an engine. One that computes on
// accelerators must know one of the node's if the stage reserves it; native uses
// the CPU in any case, and an engine that names no devices is taken at its word.
func (c Capability) RunsEngine(name string, accelerated bool) bool {
	return slices.ContainsFunc(c.Engines, func(e Engine) bool {
		return e.Name == name && e.Available &&
			(!accelerated || name == "native" || len(e.Devices) == 0 || slices.ContainsFunc(e.Devices, func(d string) bool { return d != "cpu" }))
	})
}

// LacksEngine says why a node cannot run an engine that RunsEngine denies it, and what
// to do where the node itself knows.
func (c Capability) LacksEngine(name string) string {
	var can []string
	for _, e := range c.Engines {
		if e.Name == name && e.Reason != "" {
			return e.Reason
		}
		if e.Name == name && e.Available { // but not on a GPU
			return "runs " + name + " on " + strings.Join(e.Devices, ", ") + " only"
		}
		if e.Available {
			can = append(can, e.Name)
		}
	}
	if len(can) == 0 {
		return "without engines"
	}
	slices.Sort(can)
	return "runs " + strings.Join(can, ", ")
}

// NoNode is why a stage waits in a mesh without nodes.
const NoNode = "no node has joined yet"

// NoEngine is why a stage waits whose engine no node can run.
func NoEngine(name string, accelerated bool) string {
	if accelerated {
		return "no node can run the engine " + name + " on a GPU"
	}
	return "no node can run the engine " + name
}
