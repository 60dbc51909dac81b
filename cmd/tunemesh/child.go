package main

import (
	"os"

	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// Names of the hidden subcommands under which the binary starts itself again.
const (
	childS3   = "s3-child"
	childShim = "shim"
	childStep = "doctor-step"
)

// runChild runs a child of our own, if that is what the arguments ask for.
func runChild(args []string) (code int, ours bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case childS3:
		return artifacts.RunChild(args[1:]), true
	case childShim:
		return launcher.ShimMain(args[1:]), true
	case childStep:
		return stepMain(os.Stdout), true
	}
	return 0, false
}
