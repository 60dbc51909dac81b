// Command generate makes the example data set, and text of its kind to pretrain
// the bundled base model on.
//
//	go run ./examples/generate > examples/support-tickets.csv
//	go run ./examples/generate -corpus 100000 > corpus.txt
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"

	"github.com/tunemesh/tunemesh/examples/tickets"
)

func main() {
	corpus := flag.Int("corpus", 0, "print this many lines of text without labels instead of the data set")
	rows := flag.Int("rows", tickets.Rows, "clean rows of the data set; about 4 in 100 are repeated on top")
	seed := flag.Uint64("seed", 0, "0: the data set's own, or another one for -corpus")
	out := flag.String("out", "", "file to write instead of standard output")
	flag.Parse()
	if err := run(*corpus, *rows, *seed, *out); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(corpus, rows int, seed uint64, out string) error {
	file := os.Stdout
	if out != "" {
		var err error
		if file, err = os.Create(out); err != nil {
			return err
		}
		defer file.Close()
	}
	w := bufio.NewWriterSize(file, 1<<16)
	var err error
	switch {
	case corpus > 0 && seed == 0:
		err = tickets.WriteCorpus(w, tickets.Seed+1, corpus)
	case corpus > 0:
		err = tickets.WriteCorpus(w, seed, corpus)
	case seed == 0:
		err = tickets.WriteCSV(w, tickets.Dataset(tickets.Seed, rows))
	default:
		err = tickets.WriteCSV(w, tickets.Dataset(seed, rows))
	}
	if err != nil {
		return err
	}
	return w.Flush()
}
