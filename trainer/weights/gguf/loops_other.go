//go:build !amd64

package gguf

func fastest() loops { return pureLoops() }
