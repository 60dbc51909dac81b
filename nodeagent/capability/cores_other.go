//go:build !linux

package capability

import "runtime"

func usableCores() int { return runtime.NumCPU() }

func platformModel() string { return runtime.GOARCH }
