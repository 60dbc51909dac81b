package hub

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Source names a model: ORG/NAME, a revision, and perhaps one GGUF file of it.
type Source struct {
	Repo     string // "HuggingFaceTB/SmolLM2-135M-Instruct"
	Revision string // a branch, a tag or a commit
	File     string // "model.Q4_K_M.gguf": that file only
}

var (
	part     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	revision = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

// Parse reads "hf:ORG/NAME", "hf:ORG/NAME@REVISION" and "hf:ORG/NAME/FILE.gguf@REVISION"; the
// revision is main if none is given.
func Parse(text string) (Source, error) {
	rest, _ := strings.CutPrefix(text, "hf:")
	name, rev, named := strings.Cut(rest, "@")
	if !named {
		rev = "main"
	}
	s := Source{Repo: name, Revision: rev}
	if parts := strings.SplitN(name, "/", 3); len(parts) == 3 {
		s.Repo, s.File = parts[0]+"/"+parts[1], parts[2]
	}
	org, model, both := strings.Cut(s.Repo, "/")
	if !both || !part.MatchString(org) || !part.MatchString(model) || strings.Contains(s.Repo, "..") {
		return s, fmt.Errorf("%q is not hf:ORG/NAME or hf:ORG/NAME@REVISION", text)
	}
	if !revision.MatchString(rev) || strings.Contains(rev, "..") {
		return s, fmt.Errorf("%q: the revision is a branch, a tag or a commit", text)
	}
	if s.File != "" && (!local(s.File) || !strings.HasSuffix(s.File, ".gguf")) {
		return s, fmt.Errorf("%q: a single file is a .gguf", text)
	}
	return s, nil
}

// Name is the model's name without its owner.
func (s Source) Name() string {
	if s.File != "" {
		return strings.TrimSuffix(path.Base(s.File), ".gguf")
	}
	return path.Base(s.Repo)
}

// String is the source as Parse reads it.
func (s Source) String() string {
	out := "hf:" + s.Repo
	if s.File != "" {
		out += "/" + s.File
	}
	return out + "@" + s.Revision
}

// local says whether a name stays within a folder.
func local(name string) bool {
	return name != "" && !strings.ContainsAny(name, "\\:\x00") && path.Clean("/"+name) == "/"+name && !strings.HasPrefix(name, ".")
}
