// Package summary tells what a finished job came to: the base model and the
// tuned one side by side, sample answers before and after, where the artifacts
// lie and how long each stage took. It reads the outputs of the built-in
// stages by their keys, whatever the stages are called, and leaves out what a
// pipeline of the user's own does not have.
package summary
