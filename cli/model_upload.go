package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// uploadTries is how often a model is sent of which the store lacks something
// afterwards.
const uploadTries = 3

// uploadModel sends what the mesh has not yet, and makes the model known.
func (c *call) uploadModel(f importFlags, folder string, found Imported) (api.Model, error) {
	have, err := c.mesh.Model(c.ctx, f.name)
	var p *api.Problem
	switch {
	case err == nil && have.SHA256 != api.ModelSHA256(found.Files) && !f.replace:
		return have, &failure{code: ExitRefused, title: fmt.Sprintf("model %s is already there with other files", f.name), hint: "choose another --name, or replace it with --replace"}
	case err != nil && !(errors.As(err, &p) && p.Status == 404):
		return have, err
	}
	for try := 1; ; try++ {
		sent, err := c.sendModel(f.name, folder, found)
		if err != nil {
			return have, err
		}
		made, err := c.mesh.CreateModel(c.ctx, f.name, api.ModelManifest{
			Architecture: found.Architecture, Parameters: found.Parameters, License: found.License, Source: published(found.Source), Files: found.Files, Replace: f.replace,
		})
		if errors.As(err, &p) && p.Type == api.ProblemNotStored && try < uploadTries {
			continue
		}
		if err == nil && sent == 0 {
			fmt.Fprintln(c.err, c.whose(made))
		}
		return made, err
	}
}

// published is a source that others can find as well; a path of this machine is not.
func published(source string) string {
	if strings.HasPrefix(source, "hf:") || strings.HasPrefix(source, "ollama:") {
		return source
	}
	return ""
}

// whose says that a model's bytes were in the mesh, and under which other name.
func (c *call) whose(made api.Model) string {
	list, err := c.mesh.Models(c.ctx)
	for _, m := range list {
		if err == nil && m.SHA256 == made.SHA256 && m.Name != made.Name {
			return fmt.Sprintf("The mesh has this model already, as %s too: nothing was sent.", format.Clean(m.Name))
		}
	}
	return "The mesh has this model already: nothing was sent."
}

// sendModel sends the files that the mesh lacks, and returns how many.
func (c *call) sendModel(name, folder string, found Imported) (int, error) {
	places, err := c.mesh.RequestModelUploads(c.ctx, name, found.Files)
	if err != nil || len(places) == 0 {
		return 0, err
	}
	var total int64
	for _, p := range places {
		total += p.Size
	}
	bar := c.progress("upload "+name, total)
	defer bar.end()
	for _, p := range places {
		if err := c.sendModelFile(bar, name, found.Files, p, filepath.Join(folder, filepath.FromSlash(p.Name))); err != nil {
			return 0, err
		}
	}
	return len(places), nil
}

func (c *call) sendModelFile(bar *progress, model string, files []api.ModelFile, to api.Artifact, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return c.mesh.SendModelFile(c.ctx, model, files, to, file, bar.moved)
}
