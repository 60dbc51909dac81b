package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// hubLicenses are the values that a hub takes for `license`.
// Source: https://huggingface.co/docs/hub/repositories-licenses
var hubLicenses = strings.Fields(`
	afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
	bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
	cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
	cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
	cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
	fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
	lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
	ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib`)

// licenseName matches the files of a model that a licence obliges to pass on with it, as
// an import keeps them.
var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|notice|use_policy)[A-Za-z0-9_-]*(\.(md|txt|pdf))?$`)

// licenseFiles are the names of those in a model's folder.
func licenseFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("export: licence: %w", err)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && licenseName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// readLicense says by what the model in dir is licensed, as its own card and the record
// of its import have it, and where the text is: a link, a file of the folder, or "".
func readLicense(dir string) (name, link string, err error) {
	readme, err := os.ReadFile(filepath.Join(dir, ReadmeFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("export: licence: %w", err)
	}
	name = frontMatter(string(readme), "license")
	if other := frontMatter(string(readme), "license_name"); other != "" && (name == "" || name == "other") {
		name = other
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "import.json")); err == nil && name == "" {
		var imported struct {
			License string `json:"license"`
		}
		_ = json.Unmarshal(raw, &imported) // no description, no licence
		name = imported.License
	}
	files, err := licenseFiles(dir)
	if err != nil {
		return "", "", err
	}
	at := slices.IndexFunc(files, func(f string) bool { return strings.HasPrefix(strings.ToLower(f), "licen") })
	switch link = frontMatter(string(readme), "license_link"); {
	case strings.HasPrefix(link, "https://") || slices.Contains(files, link):
	case at >= 0:
		link = files[at]
	default:
		link = ""
	}
	return name, link, nil
}

// hubLicense gives the licence as a hub's metadata have it: a value of its list, or
// "other" with a name of its own and, where there is one, a link to the text.
func (b BaseModel) hubLicense() (id, name, link string) {
	id = strings.ToLower(b.License)
	switch {
	case id == "":
		return "unknown", "", ""
	case slices.Contains(hubLicenses, id):
		return id, "", ""
	case id == "other" || strings.HasPrefix(id, "see "): // the licence has no name, only a text
		name = slug(b.Name) + "-license"
	default:
		name = slug(id)
	}
	return "other", strings.TrimPrefix(name, "-"), b.LicenseLink
}

var notSlug = regexp.MustCompile(`[^a-z0-9.]+`)

// slug makes an identifier of a text: my-license-1.0.
func slug(s string) string {
	s = strings.Trim(notSlug.ReplaceAllString(strings.ToLower(s), "-"), "-.")
	return strings.Trim(s[:min(len(s), 60)], "-.")
}

// hubID is the base model's name on a hub, ORG/NAME: where it was fetched, or what the
// mesh calls it too. A name of the mesh's own would be a broken link there, so it is "".
func (b BaseModel) hubID() string {
	name := b.Name
	if source, ok := strings.CutPrefix(b.Source, "hf:"); ok {
		source, _, _ = strings.Cut(source, "@")
		parts := strings.SplitN(source, "/", 3) // a single file of a model is a third
		name = strings.Join(parts[:min(2, len(parts))], "/")
	}
	if !hubName.MatchString(name) {
		return ""
	}
	return name
}

// hubName matches the name of a model on a hub, ORG/NAME.
var hubName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
