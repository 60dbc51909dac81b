package importer

import (
	"os"
	"path/filepath"
	"strings"
)

// licenseText is what a text of a licence is kept as beside the model: exports pass it
// on from there.
const licenseText = "LICENSE"

// maxLicenseName is the longest line that is taken for a licence's name, in bytes.
const maxLicenseName = 100

// keepLicense puts a licence's text beside a model that came without one, and names it
// if the source did not. A text of one short line is a name.
func keepLicense(dir, text string, d *Description) error {
	text = strings.TrimSpace(text)
	name := nameLicense(text)
	if d.License == "" {
		d.License = name
	}
	if text == "" || text == name {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, licenseText), []byte(text+"\n"), 0o644)
}

// nameLicense is what a hub calls the licence of that text; "" if it is none of the
// two that most models have.
func nameLicense(text string) string {
	head := strings.ToLower(strings.Join(strings.Fields(text[:min(len(text), 400)]), " "))
	switch {
	case len(text) <= maxLicenseName && !strings.Contains(text, "\n"):
		return text
	case strings.HasPrefix(head, "apache license version 2.0"):
		return "apache-2.0"
	case strings.HasPrefix(head, "mit license"):
		return "mit"
	}
	return ""
}
