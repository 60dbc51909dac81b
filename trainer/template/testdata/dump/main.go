// Command dump prints the Jinja of every builtin template, for golden.py.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/tunemesh/tunemesh/trainer/template"
)

func main() {
	all := map[string]string{}
	for _, name := range template.Names() {
		t, err := template.ByName(name, "</s>")
		if err != nil {
			log.Fatal(err)
		}
		all[name] = t.Jinja()
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		log.Fatal(err)
	}
}
