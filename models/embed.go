// Package models holds the base model that is in the binary. It is small: its
// card, tunemesh-mini/README.md, says how small.
package models

import (
	"embed"
	"io/fs"
)

// MiniName is the bundled model's name in a mesh.
const MiniName = "tunemesh-mini"

// What the bundled model's files say of it.
const (
	MiniParameters = 3_148_224
	MiniLicense    = "apache-2.0"
)

//go:embed tunemesh-mini
var files embed.FS

// Mini returns the bundled model's folder, as Hugging Face lays it out.
func Mini() fs.FS {
	mini, err := fs.Sub(files, MiniName)
	if err != nil {
		panic(err) // the folder is named in the line above
	}
	return mini
}
