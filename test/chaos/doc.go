// Package chaos proves what docs/reliability.md promises: it runs three servers
// and several agents of the real binary, Redis and the object store in network
// namespaces of their own, breaks them by a schedule that follows from one
// printed seed, and checks that nothing acknowledged was lost and nothing
// happened twice. It must not know how the control plane works inside: all it
// uses is the command line, the HTTP API, the object store and /proc.
package chaos
