package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/nodeagent"
)

// finding is what one check came to.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning or failed
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	// passing says that waiting may help: a mesh that is about to start.
	passing bool
}

// diagnosis is what `tunemesh doctor --json` prints.
type diagnosis struct {
	Findings []finding `json:"findings"`
	// LoRABillions is about how many billions of parameters a base model may have
	// that this machine fine-tunes by LoRA, stored as they are: the most of LoRA,
	// which says it for each device.
	LoRABillions float64     `json:"lora_billions"`
	LoRA         []loraLimit `json:"lora"`
	// Step is the training step that was tried, if it succeeded.
	Step *stepResult `json:"step,omitempty"`
	OK   bool        `json:"ok"`
}

func newDoctor() *cobra.Command {
	var dir, token, tokenFile string
	var servers []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine is fit to be a node",
		Long: `Checks disk, memory, GPU driver and engines of this machine, trains one step of
the bundled model, and says up to which size the CPU and each GPU fine-tune by
LoRA. Where a server is named, or the machine is a node already, it checks too
that the server can be reached and trusted, how far the clocks are apart, and,
by an object that is written, read and deleted again, that the object store can
be reached. An agent does the same before it joins for the first time.

Exit code 0 says that nothing failed, 1 that something did; each finding that is
not ok says what to do.
With --json: {"findings": [{"check", "status", "detail", "hint"}], "lora":
[{"device", "memory_bytes", "billions", "billions_int4"}], "lora_billions", "step",
"ok"}; status is ok, warning or failed.`,
		Example: `  tunemesh doctor
  tunemesh doctor --json | jq -r '.findings[] | select(.status == "failed") | .hint'
  tunemesh doctor --server https://10.0.0.5:7700 --token M1...`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tokenFile != "" {
				var err error
				if token, err = readToken(tokenFile); err != nil {
					return err
				}
			}
			if member, err := nodeagent.LoadMembership(dir); err == nil {
				if len(servers) == 0 {
					servers = member.Servers
				}
				if token == "" {
					token = member.Credential
				}
			}
			d := newExaminer(dir, servers, token).diagnose(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(d); err != nil {
					return err
				}
			} else {
				d.print(cmd.OutOrStdout())
			}
			if !d.OK {
				return exitError{code: 1}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", "/var/lib/tunemesh/agent", "`FOLDER` of the agent")
	f.StringSliceVar(&servers, "server", nil, "base `URL` of a control-plane server")
	f.StringVar(&token, "token", "", "`TOKEN` that says which servers to trust")
	f.StringVar(&tokenFile, "token-file", "", "`FILE` with the token")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (d diagnosis) print(w io.Writer) {
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-8s %-8s %s\n", f.Status, f.Check, f.Detail)
		if f.Hint != "" {
			fmt.Fprintf(w, "%-17s %s\n", "", f.Hint)
		}
	}
	fmt.Fprintln(w)
	for _, l := range d.LoRA {
		fmt.Fprintln(w, l)
		if l.Hint != "" {
			fmt.Fprintf(w, "  %s\n", l.Hint)
		}
	}
}
