package verify

import (
	"fmt"
	"io"
	"strings"
)

// Report is what was found.
type Report struct {
	Packages map[string]string `json:"packages"`
	Devices  []Device          `json:"devices"`
}

// Device is one that torch sees.
type Device struct {
	Kind   string  `json:"kind"` // cpu, cuda, mps
	Name   string  `json:"name"` // with the card's: cuda:0 (NVIDIA L4)
	Checks []Check `json:"checks"`
	Speed  []Speed `json:"speed"`
}

// Check compares 20 steps with those of native over the F32 base.
type Check struct {
	Precision  string  `json:"precision"`  // training.base_precision
	Arithmetic string  `json:"arithmetic"` // in the engine's words
	Worst      float64 `json:"worst_difference"`
	Tolerance  float64 `json:"tolerance"` // nats
	FirstLoss  float64 `json:"first_loss"`
	LastLoss   float64 `json:"last_loss"`
	Fault      string  `json:"fault,omitempty"` // empty: it agrees
}

// Speed is that of LoRA steps (r=16, all-linear, 4 x 128 tokens).
type Speed struct {
	Shape      string  `json:"shape"`
	Precision  string  `json:"precision"`
	TokensPerS float64 `json:"tokens_per_second"` // by the median step
	BaseBytes  int64   `json:"base_bytes"`
	PeakBytes  int64   `json:"peak_bytes"` // of the card; on the CPU resident, torch included
	Fault      string  `json:"fault,omitempty"`
}

// OK tells whether nothing failed.
func (r Report) OK() bool {
	for _, d := range r.Devices {
		for _, c := range d.Checks {
			if c.Fault != "" {
				return false
			}
		}
		for _, s := range d.Speed {
			if s.Fault != "" {
				return false
			}
		}
	}
	return len(r.Devices) > 0
}

// Print writes the report as tables.
func (r Report) Print(w io.Writer) {
	for _, d := range r.Devices {
		fmt.Fprintf(w, "%s\n  %-10s %-8s %12s %10s %16s\n", d.Name, "precision", "", "difference", "allowed", "loss")
		for _, c := range d.Checks {
			word := "agrees"
			if c.Fault != "" {
				word = "FAILS"
			}
			fmt.Fprintf(w, "  %-10s %-8s %12.2g %10.2g %7.4f -> %.4f\n", c.Precision, word, c.Worst, c.Tolerance, c.FirstLoss, c.LastLoss)
			note(w, c.Fault)
		}
		for _, s := range d.Speed {
			fmt.Fprintf(w, "  %-10s %-8s %8.0f tokens/s, base %d MB, peak %d MB\n", s.Precision, s.Shape, s.TokensPerS, s.BaseBytes>>20, s.PeakBytes>>20)
			note(w, s.Fault)
		}
	}
}

func note(w io.Writer, fault string) {
	if fault != "" {
		fmt.Fprintln(w, "             "+strings.ReplaceAll(fault, "\n", " "))
	}
}
