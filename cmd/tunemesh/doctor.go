package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
)

// finding is what one check came to.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning or failed
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// diagnosis is what `tunemesh doctor --json` prints.
type diagnosis struct {
	Findings []finding `json:"findings"`
	// LoRABillions is about how many billions of parameters a base model may have
	// that this machine fine-tunes by LoRA.
	LoRABillions float64 `json:"lora_billions"`
	OK           bool    `json:"ok"`
}

// Bounds of the checks.
const (
	diskFew, diskLittle = 2 << 30, 20 << 30
	memoryFew           = 2 << 30
	skewSmall, skewBig  = 2 * time.Second, 30 * time.Second
)

func newDoctor() *cobra.Command {
	var dir, token, tokenFile string
	var servers []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine is fit to be a node",
		Long: `Checks disk, memory, GPU driver and engines of this machine, and, where a server
is named or the machine is a node already, that the server can be reached and
trusted and how far the clocks are apart. Exit code 0 says that nothing failed,
1 that something did.
With --json: {"findings", "lora_billions", "ok"}.`,
		Example: `  tunemesh doctor
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
			d := diagnose(cmd.Context(), dir, servers, token)
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

func diagnose(ctx context.Context, dir string, servers []string, token string) diagnosis {
	place := dir
	for place != filepath.Dir(place) {
		if _, err := os.Stat(place); err == nil {
			break
		}
		place = filepath.Dir(place)
	}
	c := capability.Detect(ctx, place)
	d := diagnosis{OK: true, LoRABillions: loraBillions(c)}
	d.Findings = append(d.Findings, checkDisk(c, place), checkMemory(c), checkGPUs(c), checkEngines(c))
	for _, s := range servers {
		d.Findings = append(d.Findings, checkServer(ctx, s, token)...)
	}
	for _, f := range d.Findings {
		d.OK = d.OK && f.Status != "failed"
	}
	return d
}

func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func checkDisk(c api.Capability, place string) finding {
	f := finding{Check: "disk", Status: "ok", Detail: gib(c.DiskBytes) + " free at " + place}
	switch {
	case c.DiskBytes < diskFew:
		f.Status, f.Hint = "failed", "a node needs 2 GiB for inputs and checkpoints, 20 GiB is comfortable: free some, or choose another --data-dir"
	case c.DiskBytes < diskLittle:
		f.Status, f.Hint = "warning", "enough for small models; a model of several GB is cached here, beside its checkpoints"
	}
	return f
}

func checkMemory(c api.Capability) finding {
	f := finding{Check: "memory", Status: "ok", Detail: gib(c.MemoryBytes)}
	if c.MemoryBytes < memoryFew {
		f.Status, f.Hint = "warning", "only the smallest models can be trained with less than 2 GiB"
	}
	return f
}

func checkGPUs(c api.Capability) finding {
	var names []string
	for _, g := range c.GPUs {
		names = append(names, strings.TrimSpace(fmt.Sprintf("%s %s driver %s", g.Name, gib(g.MemoryBytes), g.Driver)))
	}
	if len(names) == 0 {
		return finding{Check: "gpu", Status: "ok", Detail: "no GPU is seen: the CPU trains", Hint: "where there is one, its driver is missing, or this user may not use it (try nvidia-smi)"}
	}
	return finding{Check: "gpu", Status: "ok", Detail: strings.Join(names, "; ")}
}

func checkEngines(c api.Capability) finding {
	f := finding{Check: "engines", Status: "failed", Hint: "without an engine only stages that train nothing can run here"}
	var parts []string
	for _, e := range c.Engines {
		if e.Available {
			f.Status, f.Hint = "ok", ""
			parts = append(parts, e.Name)
		} else {
			parts = append(parts, e.Name+" not: "+e.Reason)
		}
	}
	f.Detail = strings.Join(parts, "; ")
	return f
}

// checkServer asks one server whether it is ready, and compares clocks by its
// answer's Date, which has whole seconds.
func checkServer(ctx context.Context, server, token string) []finding {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	reach := finding{Check: "server", Status: "failed", Detail: server}
	t, err := api.ParseToken(token)
	if err != nil {
		reach.Detail += ": " + err.Error()
		return []finding{reach}
	}
	transport := &http.Transport{}
	if len(t.CA) > 0 {
		transport.TLSClientConfig = client.PinnedTLS(t.CA)
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(server, "/")+"/readyz", nil)
	if err != nil {
		reach.Detail += ": " + err.Error()
		return []finding{reach}
	}
	sent := time.Now()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		reach.Detail, reach.Hint = err.Error(), "check address and firewall; a certificate that is not trusted needs the whole token, M1..."
		return []finding{reach}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	trip := time.Since(sent)
	reach.Status, reach.Detail = "ok", fmt.Sprintf("%s answers after %s", server, trip.Round(time.Millisecond))
	if resp.StatusCode != http.StatusOK {
		reach.Status, reach.Hint = "warning", fmt.Sprintf("it is not ready: status %d", resp.StatusCode)
	}
	clock := finding{Check: "clock", Status: "ok"}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return []finding{reach}
	}
	skew := sent.Add(trip / 2).Sub(theirs.Add(500 * time.Millisecond)).Abs()
	clock.Detail = fmt.Sprintf("about %s apart from %s", skew.Round(time.Second), server)
	switch {
	case skew > skewBig:
		clock.Status, clock.Hint = "failed", "links into the object store are signed with times: set the clock, best by NTP"
	case skew > skewSmall:
		clock.Status, clock.Hint = "warning", "set the clock by NTP"
	}
	return []finding{reach, clock}
}

// loraBillions estimates by rule: weights take 2 bytes a parameter on a GPU, 4 on
// the CPU, where the native engine computes in 32 bits; a quarter more for the
// adapter, its optimizer and activations at a batch of 1; 1 GiB for the program.
// What a job needs exactly is planned when it is submitted.
func loraBillions(c api.Capability) float64 {
	fits := func(memory int64, bytes float64) float64 {
		return max(0, float64(memory-1<<30)/(bytes*1.25)/1e9)
	}
	best := fits(c.MemoryBytes, 4)
	for _, g := range c.GPUs {
		best = max(best, fits(g.MemoryBytes, 2))
	}
	return float64(int(best*10)) / 10
}

func (d diagnosis) print(w io.Writer) {
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-8s %-8s %s\n", f.Status, f.Check, f.Detail)
		if f.Hint != "" {
			fmt.Fprintf(w, "%-17s %s\n", "", f.Hint)
		}
	}
	fmt.Fprintf(w, "\nThis machine can train by LoRA up to about %.1f B parameters.\n", d.LoRABillions)
}
