// Command build writes the dashboards' JSON files.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/deploy/grafana"
)

func main() {
	if err := write("dashboards"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	files, err := grafana.Dashboards()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
