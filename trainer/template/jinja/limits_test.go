package jinja_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/template/jinja"
)

// What would take for ever or fill the memory ends with an error, soon and small.
func TestCostsAreBounded(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat("{% for a in range(100) %}", n) + "x" + strings.Repeat("{% endfor %}", n)
	}
	for label, c := range map[string]struct{ source, want string }{
		"endless range":          {`{% for i in range(1000000000) %}{% endfor %}`, "longer than"},
		"range that runs over":   {`{% for i in range(0, 999999999, 0) %}{% endfor %}`, "step is 0"},
		"nested loops":           {nested(8), "work"},
		"a loop of text":         {strings.Repeat("{% for a in range(9999) %}", 2) + strings.Repeat("x", 9999) + strings.Repeat("{% endfor %}", 2), "work"},
		"a text that doubles":    {`{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`, "grows beyond"},
		"doubling in a macro":    {`{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('x') }}`, "grows beyond"},
		"a macro without end":    {`{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`, "deep"},
		"two macros without end": {`{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`, "deep"},
		"a caller without end":   {`{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}`, "deep"},
		"lists that double":      {`{% set ns = namespace(s=['x']) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}`, "nested more|grows beyond"},
		"a list in itself":       {`{% set l = [] %}{% set _ = l.append(l) %}{{ l }}`, "nested more"},
		"a namespace in itself":  {`{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}`, "nested more"},
		"printed at once":        {`{% set l = [] %}{{ l.append(l) or l | string }}`, "nested more|not supported"},
		"repeated text":          {`{{ 'x' * 1000000000 }}`, "multiplication"},
		"power":                  {`{{ 9 ** 99999 }}`, "multiplication"},
		"replaced by longer":     {`{% set s = 'xxxxxxxxxx' | replace('x', '` + strings.Repeat("x", 99) + `') | replace('x', '` + strings.Repeat("x", 99) + `') %}`, "as long"},
		"replaced by a variable": {`{% set s = 'x' %}{{ s | replace('x', s) }}`, "written out"},
		"joined by a variable":   {`{{ messages | join(bos_token) }}`, "written out"},
		"method replace":         {`{{ bos_token.replace('', bos_token) }}`, "written out"},
		"by map":                 {`{{ messages | map('replace', 'a', bos_token) }}`, "not supported"},
		"a filter block":         {`{% filter replace('a', bos_token) %}a{% endfilter %}`, "written out"},
		"a large indent":         {`{{ messages | tojson | indent(999999999) }}`, "as long"},
		"a large number":         {`{{ 99999999999999999999 }}`, "too large"},
		"deep brackets":          {"{{ " + strings.Repeat("(", 500) + "1" + strings.Repeat(")", 500) + " }}", "nested"},
		"deep blocks":            {strings.Repeat("{% if 1 %}", 500) + strings.Repeat("{% endif %}", 500), "nested"},
		"a long tag":             {"{{ 1" + strings.Repeat(" + 1", 2000) + " }}", "bytes outside"},
		"a large source":         {strings.Repeat("x", 200<<10), "more than"},
		"our own name":           {"{{ __tm_leave() }}", "reserved"},
		"a file":                 {"{% include '/etc/passwd' %}", "stands alone"},
		"an import":              {"{% import '/etc/passwd' as x %}", "stands alone"},
		"not closed":             {"{% if 1 %}", "not closed"},
		"closes nothing":         {"{% endfor %}", "closes nothing"},
		"a bad tag":              {"{{ 'x", "not closed"},
		"a bad date":             {"{{ strftime_now('%Q') }}", "not known"},
	} {
		t.Run(label, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			tmpl, err := jinja.Parse(c.source)
			if err == nil {
				_, err = tmpl.Render(render{}.vars(), day)
			}
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("went through, want %q", c.want)
			}
			found := false
			for _, want := range strings.Split(c.want, "|") {
				found = found || strings.Contains(err.Error(), want)
			}
			if !found {
				t.Errorf("%.300s, want %q", err, c.want)
			}
			if d := time.Since(begin); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 2<<30 {
				t.Errorf("it allocated %d MiB", n>>20)
			}
		})
	}
}

// A text of the size that a dataset's cell may have is rendered: the limits grow with it.
func TestLongMessagesAreRendered(t *testing.T) {
	source, err := os.ReadFile("../testdata/jinja/qwen3.jinja")
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := jinja.Parse(string(source))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("word ", 2<<20)
	r := render{}
	for range 3 {
		r.Messages = append(r.Messages, map[string]string{"role": "user", "content": long}, map[string]string{"role": "assistant", "content": long})
	}
	got, err := tmpl.Render(r.vars(), day)
	if err != nil || len(got) < 6*len(long) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// No template, whatever it is, makes the renderer panic, run for ever or fill the memory.
func FuzzTemplate(f *testing.F) {
	files, err := filepath.Glob("../testdata/jinja/*.jinja")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(source), "Hello {{ x }}")
	}
	f.Add(`{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('x') }}`, "")
	f.Add(`{% for a in messages[::-1] if a %}{{ loop.cycle(1, 2)[-1:] | tojson(indent=2) }}{% else %}{% endfor %}`, "")
	f.Fuzz(func(t *testing.T, source, content string) {
		tmpl, err := jinja.Parse(source)
		if err != nil {
			return
		}
		r := render{Messages: []map[string]string{{"role": "user", "content": content}, {"role": "assistant", "content": "x"}}}
		begin := time.Now()
		text, err := tmpl.Render(r.vars(), day)
		if d := time.Since(begin); d > 5*time.Second {
			t.Fatalf("it took %v", d)
		}
		if err == nil && len(text) > 2*jinja.MaxWork {
			t.Fatalf("%d bytes came out", len(text))
		}
	})
}
