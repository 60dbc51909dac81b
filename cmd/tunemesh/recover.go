package main

import (
	"context"
	"time"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/controlplane"
)

// recoverCluster is the client's `cluster recover`, with the control plane's code.
func recoverCluster(ctx context.Context, dir string, do bool) (cli.Recovery, error) {
	r, err := controlplane.Recover(ctx, dir, do, time.Now())
	if err != nil {
		return cli.Recovery{}, err
	}
	out := cli.Recovery{
		Server: recoveryServer(r.Self), Others: []cli.RecoveryServer{}, LastIndex: r.Last, LastTerm: r.Term, OpenJobs: r.Jobs, Attempts: r.Attempts, Datasets: r.Datasets,
		Done: do, Backup: r.Backup, Index: r.Index,
	}
	for _, o := range r.Others {
		out.Others = append(out.Others, recoveryServer(o))
	}
	return out, nil
}

func recoveryServer(l controlplane.Lost) cli.RecoveryServer {
	return cli.RecoveryServer{ID: l.ID, Name: l.Name, URL: l.URL, Voter: l.Voter}
}
