package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// fetchObjects brings the files that lie in the mesh's bucket under models/base/NAME/ into
// the folder dir, and gives what to import: the folder, or the GGUF file if it is one.
func (c *call) fetchObjects(name, dir string) (string, error) {
	if !validModelName.MatchString(name) {
		return "", wrong("the files have to lie under models/base/NAME/ in the mesh's bucket", "s3:%s: %q is no name for a model", clip(name), clip(name))
	}
	files, err := c.mesh.ModelObjects(c.ctx, name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var total int64
	for _, f := range files {
		total += f.Size
	}
	bar := c.progress("fetch "+name, total)
	defer bar.end()
	only := ""
	for _, f := range files {
		path := filepath.Join(dir, filepath.Base(f.Name))
		if err := c.fetchObject(bar, f, path); err != nil {
			return "", err
		}
		if strings.HasSuffix(f.Name, ".gguf") {
			if only != "" {
				return "", wrong("leave one there", "%s has several GGUF files: %s and %s", format.Clean(name), filepath.Base(only), format.Clean(f.Name))
			}
			only = path
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil && only != "" {
		return only, nil
	}
	return dir, nil
}

func (c *call) fetchObject(bar *progress, f api.Artifact, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := c.download(f, file, bar); err != nil {
		return err
	}
	return file.Close()
}
