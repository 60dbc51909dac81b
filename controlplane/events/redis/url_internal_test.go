package redis

import (
	"slices"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for raw, want := range map[string]target{
		"redis://h":                      {addrs: []string{"h:6379"}},
		"redis://[::1]:7/3":              {addrs: []string{"[::1]:7"}, db: 3},
		"rediss://u:p%40ss@h:7":          {addrs: []string{"h:7"}, user: "u", password: "p@ss", tls: true},
		"rediss://:p@h?skip_verify=true": {addrs: []string{"h:6379"}, password: "p", tls: true, insecureHosts: true},
		"redis+cluster://a:1?addr=b:2":   {addrs: []string{"a:1", "b:2"}, cluster: true},
		"redis+sentinel://u:p@a/m/2":     {addrs: []string{"a:26379"}, master: "m", db: 2, user: "u", password: "p"},
		"rediss+sentinel://a:1/m?addr=b:2&addr=c:3&sentinel_username=su&sentinel_password=sp": {
			addrs: []string{"a:1", "b:2", "c:3"}, master: "m", tls: true, sentinelUser: "su", sentinelPassword: "sp"},
	} {
		got, err := parseURL(raw)
		if err != nil || !slices.Equal(got.addrs, want.addrs) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
		got.addrs, want.addrs = nil, nil
		if !equal(got, want) {
			t.Errorf("%s: %+v, want %+v", raw, got, want)
		}
	}
	for raw, want := range map[string]string{
		"":                                  "begins with none of",
		"http://h":                          "begins with none of",
		"redis+nothing://h":                 "begins with none of",
		"redis://":                          "no host",
		"redis://h/x":                       "is no number",
		"redis://h?addr=b:1":                `"addr"`,
		"redis://h?skip_verify=true":        `"skip_verify"`,
		"rediss://h?skip_verify=perhaps":    "true or false",
		"redis+sentinel://h":                "no master",
		"redis+cluster://h/1":               "only the database 0",
		"redis+cluster://h?addr=b":          "HOST:PORT",
		"redis://u:se#cret@h":               "",
		"redis://u:se%zzcret@h":             "cannot be parsed",
		"redis://u:secret@h:port":           "cannot be parsed",
		"redis://u:secret@h?secret_size=12": `"secret_size"`,
	} {
		_, err := parseURL(raw)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(strings.ReplaceAll(err.Error(), "secret_size", ""), "cret") {
			t.Errorf("%s: the error tells the password: %v", raw, err)
		}
	}
}

func equal(a, b target) bool {
	return a.master == b.master && a.cluster == b.cluster && a.db == b.db && a.user == b.user && a.password == b.password &&
		a.sentinelUser == b.sentinelUser && a.sentinelPassword == b.sentinelPassword && a.tls == b.tls && a.insecureHosts == b.insecureHosts
}

// FuzzURL: whatever the URL, what is printed has no password.
func FuzzURL(f *testing.F) {
	f.Add("redis://u:", "@h:1/2")
	f.Add("rediss+sentinel://u:", "@a:1/m?addr=b:2&sentinel_password=x")
	f.Add("redis+cluster://:", "@a?addr=b")
	f.Add("redis://u:%", "@h")
	const password = "Zx9qWv7"
	f.Fuzz(func(t *testing.T, before, after string) {
		// Only what stands where a password stands is one.
		if !strings.HasSuffix(before, ":") || !strings.HasPrefix(after, "@") || strings.ContainsAny(before, "?#@") {
			t.Skip()
		}
		got, err := parseURL(before + password + after)
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("the error of %q + password + %q tells it: %v", before, after, err)
		}
		if err == nil && (len(got.addrs) == 0 || strings.Contains(got.String(), password) && got.password == password) {
			t.Errorf("%q + password + %q: %v", before, after, got)
		}
	})
}
