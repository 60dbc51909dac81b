// Package view is what a person sees of a running job: a State that takes the
// job's document and its events in, and two ways to show it - lines that are
// drawn over and over in a terminal, and plain lines for a pipe. Both are pure
// functions of what came in and of the time given to them; the package reads no
// clock, no network and no terminal.
package view
