package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/api/snapshot"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// snapshots is what the verbs need of the mesh; client.Client has it.
type snapshots interface {
	SaveSnapshot(ctx context.Context, stale bool, w io.Writer) error
	RestoreSnapshot(ctx context.Context, file io.ReadSeeker, force bool) (snapshot.Summary, error)
}

func (a *app) snapshotCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "snapshot", Aliases: []string{"snapshots"},
		Short: "Save, look into and restore the control plane's state",
		Long: `A snapshot is one file with everything that the servers agree on: jobs, stages, attempts, dead
letters, datasets, models, nodes, tokens (their hashes) and the cluster's keyring. It does not hold
the objects (back up the bucket), nor the lines of jobs (Redis), nor the cluster secret.

A snapshot is secret: the keyring has the private key of the cluster's CA, and with that anybody can
pass for a server. Save writes it for its owner alone (mode 0600); keep copies of it encrypted.

After the loss of all servers: found a new cluster with the same cluster secret and the same object
store, restore, and the agents come back by themselves.`,
		Example: `  tunemesh snapshot save monday.snapshot
  tunemesh snapshot inspect monday.snapshot
  tunemesh snapshot restore monday.snapshot`,
	}
	group.AddCommand(a.snapshotSave(), a.snapshotInspect(), a.snapshotRestore())
	return group
}

func (c *call) snapshots() (snapshots, error) {
	s, ok := c.mesh.(snapshots)
	if !ok {
		return nil, errors.New("this connection takes no snapshots")
	}
	return s, nil
}

func (a *app) snapshotSave() *cobra.Command {
	var stale, force bool
	c := &cobra.Command{
		Use:   "save FILE",
		Short: "Save the state into a file",
		Long: `Save a consistent copy of the control plane's state. The file appears only when it is whole; it is
checked before. Only its owner can read it (mode 0600): it holds the cluster's keys.
With --json: snapshot.Summary.`,
		Example: `  tunemesh snapshot save monday.snapshot
  tunemesh snapshot save --stale --server http://10.0.0.6:7700 that-server.snapshot`,
		Args: exactArgs("FILE"),
		RunE: a.online(func(c *call) error { return c.saveSnapshot(c.args[0], stale, force) }),
	}
	c.Flags().BoolVar(&stale, "stale", false, "the state of the server that is asked, which may be behind: where there is no leader")
	c.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return c
}

func (c *call) saveSnapshot(path string, stale, force bool) error {
	mesh, err := c.snapshots()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return wrong("choose another name, or --force", "%s is there already", path)
	}
	// CreateTemp makes the file 0600, as the keys in it want, and a rename keeps that.
	f, err := os.CreateTemp(filepath.Dir(path), ".snapshot-*")
	if err != nil {
		return wrong("choose another place for it", "%s cannot be written: %s", clip(path), reason(err))
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := mesh.SaveSnapshot(c.ctx, stale, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("save the snapshot: %w", err)
	}
	summary, err := snapshot.Inspect(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save the snapshot: %w", err)
	}
	return c.showSnapshot(summary, "Saved "+path+".")
}

func (a *app) snapshotInspect() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a file and say what it holds",
		Long:  "Read a snapshot to its end, check it, and say what it holds. No server is asked.\nWith --json: snapshot.Summary.",
		Example: `  tunemesh snapshot inspect monday.snapshot
  tunemesh snapshot inspect monday.snapshot --json | jq .rows.jobs`,
		Args: exactArgs("FILE"),
		RunE: a.offline(func(c *call) error {
			f, err := os.Open(c.args[0])
			if err != nil {
				return fileFault(c.args[0], err)
			}
			defer f.Close()
			summary, err := snapshot.Inspect(f)
			if err != nil {
				return badSnapshot(c.args[0], err)
			}
			return c.showSnapshot(summary, "")
		}),
	}
}

func (a *app) snapshotRestore() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the state of the whole cluster by a file's",
		Long: `Replace the control plane's state by a snapshot's. Servers, keys and tokens of the cluster stay, the
snapshot's tokens come back beside them. Attempts that the snapshot does not know are stopped by
their agents; those that it knows go on. A cluster that has jobs or datasets refuses, unless --force
is given.
With --json: snapshot.Summary.`,
		Example: `  tunemesh snapshot restore monday.snapshot
  tunemesh snapshot restore monday.snapshot --force`,
		Args: exactArgs("FILE"),
		RunE: a.online(func(c *call) error {
			mesh, err := c.snapshots()
			if err != nil {
				return err
			}
			f, err := os.Open(c.args[0])
			if err != nil {
				return fileFault(c.args[0], err)
			}
			defer f.Close()
			summary, err := mesh.RestoreSnapshot(c.ctx, f, force)
			var asked *client.CallError
			if err != nil && !errors.As(err, &asked) { // it was looked through before anybody was asked
				return badSnapshot(c.args[0], err)
			}
			if err != nil {
				return err
			}
			return c.showSnapshot(summary, "The cluster has the state of "+c.args[0]+".")
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "throw away the jobs and datasets that are there")
	return c
}

// badSnapshot says that a file is no whole snapshot.
func badSnapshot(path string, err error) error {
	return wrong("`tunemesh snapshot save` makes one", "%s is no whole snapshot: %s", clip(path), err)
}

func (c *call) showSnapshot(s snapshot.Summary, remark string) error {
	if c.json {
		return c.printJSON(s)
	}
	fmt.Fprintf(c.out, "Raft index %d, term %d, taken %s by server %s (%s), %s unpacked\nstate SHA-256 %s\n\n",
		s.Index, s.Term, s.TakenAt.In(c.location()).Format(time.DateTime), s.Server, s.Program, format.Bytes(s.Bytes), s.SHA256)
	t := table.Table{Columns: []table.Column{{Title: "TABLE"}, {Title: "ROWS", Right: true}}}
	for _, name := range slices.Sorted(maps.Keys(s.Rows)) {
		t.Row(name, fmt.Sprint(s.Rows[name]))
	}
	if err := c.table(&t); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "\nNot included")
	for _, what := range s.NotIncluded {
		fmt.Fprintln(c.out, "  "+what)
	}
	if remark != "" {
		fmt.Fprintln(c.out, "\n"+remark)
	}
	return nil
}
