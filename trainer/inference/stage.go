package inference

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/machine"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

// OutputKey is the key of Summary in this stage's output.
const OutputKey = "inference"

// Summary is the stage's output: what it served, and where.
type Summary struct {
	Address string `json:"address"`
	Model   string `json:"model"`
	Tuned   bool   `json:"tuned"`
}

// Stage serves the job's model, with the adapter of an ancestor if there is one,
// until it is told to stop: it never ends by itself. Where it listens stands in
// an event.
func Stage(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	config, err := contract.ParseConfig(in.Config, false)
	if err != nil {
		return contract.Result{}, err
	}
	config = config.WithDefaults()
	files, err := tuned.Find(in)
	if err != nil {
		base, baseErr := in.Dir(contract.ModelInputs, "")
		if baseErr != nil {
			return contract.Result{}, baseErr
		}
		files = tuned.Files{Base: base}
	}
	settled, err := Settle(files, config.Inference.Precision, config.Inference.Concurrent, machine.FreeMemory())
	if err != nil {
		return contract.Result{}, err
	}
	emit.Info("inference."+settled.String(), map[string]any{"field": "inference.precision", "value": settled.Precision, "weight_bytes": settled.Weights, "request_bytes": settled.Request})
	l, err := Load(config.Model, files, config.Template, settled)
	if err != nil {
		return contract.Result{}, err
	}
	defer l.Close()
	listener, err := net.Listen("tcp", config.Inference.Address)
	if err != nil {
		return contract.Result{}, &contract.Error{Class: contract.ClassResources, Code: "ADDRESS_IN_USE", Field: "inference.address",
			Message: fmt.Sprintf("cannot listen: %v", err), Hint: "port 0 takes any; the stage says which it got"}
	}
	s := NewServer(l, Limits{Concurrent: config.Inference.Concurrent})
	summary := Summary{Address: Reachable(listener.Addr()), Model: l.Name, Tuned: l.Tuned}
	emit.Info("serving at "+summary.Address, map[string]any{"address": summary.Address, "model": l.Name, "tuned": l.Tuned, "load_seconds": l.Took.Seconds()})
	err = s.Run(ctx, listener)
	if err == nil {
		err = ctx.Err()
	}
	return contract.Result{}, err
}

// Reachable is the address that others are told: a wildcard's is the host's
// name.
func Reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil && name != "" {
			host = name
		}
	}
	return net.JoinHostPort(host, port)
}
