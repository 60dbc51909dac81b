// Package jinja renders chat templates as Hugging Face's apply_chat_template does
// (transformers, utils/chat_template_utils.py: trim_blocks and lstrip_blocks on, the
// functions raise_exception and strftime_now, the tag generation).
//
// A template comes with a model from the network and is a program. It gets no files and
// no clock, and what it may cost is bounded: see Limits. The interpreter is
// github.com/ardanlabs/jinja; the bounds are ours, written into the template's source
// before it is compiled (guard.go).
//
// The package knows nothing of roles, tokens or losses.
package jinja
