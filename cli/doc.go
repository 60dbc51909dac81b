// Package cli is the command line of a user of the mesh: the verbs dataset,
// job, node, artifact, model, login and version, and their output.
//
// Every verb prints for people by default and, with --json, the documents of
// package api as the server sent them, so that they are as stable as the API: a
// list is a JSON array, one thing a JSON object, a stream (job watch, job logs
// --follow) one JSON object per line. Results go to standard output, progress
// and errors to standard error. The exit code tells what happened, see Exit.
//
// It talks to the control plane through api/client alone. It makes no decision
// about jobs, and knows nothing of stages beyond what the server and the output
// documents of the stages say.
package cli
