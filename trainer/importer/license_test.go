package importer

import "testing"

func TestALicencesTextIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":    "",
		"MIT": "MIT",
		"\n      Apache License\n   Version 2.0, January 2004\n": "apache-2.0",
		"MIT License\n\nCopyright (c) 2025 Somebody\n":           "mit",
		"GEMMA TERMS OF USE\nLast modified: 2024\n":              "",
	} {
		var d Description
		if err := keepLicense(t.TempDir(), text, &d); err != nil || d.License != want {
			t.Errorf("%q is called %q, %v", text, d.License, err)
		}
		d.License = "its own"
		if err := keepLicense(t.TempDir(), text, &d); err != nil || d.License != "its own" {
			t.Errorf("%q takes the place of the source's: %q, %v", text, d.License, err)
		}
	}
}
