// Package launcher starts stages and keeps hold of them: an interface that a
// local process and a Nomad allocation can both stand behind, and the local
// one, a shim process that outlives the agent.
//
// It must not know of jobs, the control plane or what a stage does: it gets a
// command, an environment and files, and tells how the command ended.
package launcher
