package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

// shownModel is what `inference show --json` prints.
type shownModel struct {
	Address       string        `json:"address"`
	Name          string        `json:"name"`
	Architecture  string        `json:"architecture"`
	Parameters    int64         `json:"parameters"`
	ContextLength int32         `json:"context_length"`
	Template      string        `json:"template"`
	Precision     string        `json:"precision"`
	WeightBytes   int64         `json:"weight_bytes"`
	RequestBytes  int64         `json:"request_bytes"`
	LoadSeconds   float64       `json:"load_seconds"`
	Tuned         bool          `json:"tuned"`
	Adapter       *shownAdapter `json:"adapter,omitempty"`
}

type shownAdapter struct {
	BaseModel     string   `json:"base_model"`
	Rank          int32    `json:"rank"`
	Alpha         float64  `json:"alpha"`
	RSLoRA        bool     `json:"rslora"`
	TargetModules []string `json:"target_modules"`
	Parameters    int64    `json:"parameters"`
	Bytes         int64    `json:"bytes"`
}

func newInferenceShow() *cobra.Command {
	var addr string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what a service has loaded: model, precision, memory, adapter",
		Long: `Asks a service what it has loaded: the model, the precision of its weights, the memory that
they and a request take, and the adapter if there is one.
With --json: one object of the same.`,
		Example: `  tunemesh inference show
  tunemesh inference show --addr 127.0.0.1:8002 --json | jq .precision`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := dialService(addr)
			if err != nil {
				return err
			}
			defer client.Close()
			info, err := client.Model(cmd.Context())
			if err != nil {
				return ofService(cmd.Context(), addr, err)
			}
			shown := shownOf(addr, info)
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(shown)
			}
			shown.print(cmd.OutOrStdout())
			return nil
		},
	}
	addrFlag(cmd, &addr)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func shownOf(addr string, info *inferencepb.ModelInfo) shownModel {
	m := shownModel{
		Address: addr, Name: info.GetName(), Architecture: info.GetArchitecture(), Parameters: info.GetParameters(),
		ContextLength: info.GetContextLength(), Template: info.GetTemplate(), Precision: info.GetPrecision(),
		WeightBytes: info.GetWeightBytes(), RequestBytes: info.GetRequestBytes(), LoadSeconds: info.GetLoadSeconds(), Tuned: info.GetTuned(),
	}
	if a := info.GetAdapter(); a != nil {
		m.Adapter = &shownAdapter{
			BaseModel: a.GetBaseModel(), Rank: a.GetRank(), Alpha: a.GetAlpha(), RSLoRA: a.GetRslora(),
			TargetModules: a.GetTargetModules(), Parameters: a.GetParameters(), Bytes: a.GetBytes(),
		}
	}
	return m
}

func (m shownModel) print(w io.Writer) {
	line := func(name, words string, args ...any) {
		fmt.Fprintln(w, format.Indent(fmt.Sprintf("%-12s  ", name), format.Clean(fmt.Sprintf(words, args...)), table.DefaultWidth))
	}
	line("Model", "%s", m.Name)
	line("Architecture", "%s, %s parameters", m.Architecture, format.Count(m.Parameters))
	line("Context", "%s tokens", format.Count(int64(m.ContextLength)))
	line("Template", "%s", m.Template)
	line("Precision", "%s", m.Precision)
	line("Memory", "%s for the weights, up to %s for a request", format.Memory(m.WeightBytes), format.Memory(m.RequestBytes))
	switch a := m.Adapter; {
	case a != nil:
		scaling := ""
		if a.RSLoRA {
			scaling = ", rsLoRA"
		}
		line("Adapter", "LoRA over %s: rank %d, alpha %g%s, on %s; %s parameters, %s", a.BaseModel, a.Rank, a.Alpha, scaling,
			strings.Join(a.TargetModules, ", "), format.Count(a.Parameters), format.Memory(a.Bytes))
	case m.Tuned:
		line("Adapter", "none: all weights are tuned")
	default:
		line("Adapter", "none: a base model")
	}
	line("Loaded in", "%.1f s", m.LoadSeconds)
}
