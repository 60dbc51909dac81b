// Package e2e runs the real binary: whole pipelines, custom stages, bad files,
// SIGKILL of everything in mid-training. It needs bin/tunemesh (make build) and
// TUNEMESH_E2E=1; `make test-e2e` sets both up.
package e2e
