package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// Recoverer looks into the data folder of a server that does not run, and with do
// makes it the only voter of its cluster.
type Recoverer func(ctx context.Context, dir string, do bool) (Recovery, error)

// Recovery is what a Recoverer finds and did.
type Recovery struct {
	Server    RecoveryServer   `json:"server"`
	Others    []RecoveryServer `json:"others"`
	LastIndex uint64           `json:"last_index"`
	LastTerm  uint64           `json:"last_term"`
	OpenJobs  int              `json:"open_jobs"`
	Attempts  int              `json:"attempts"`
	Datasets  int              `json:"datasets"`
	// Done says that it was changed; Backup is then the old Raft folder's copy, and
	// Index the one that the cluster goes on from.
	Done   bool   `json:"done"`
	Backup string `json:"backup,omitempty"`
	Index  uint64 `json:"index,omitempty"`
}

// RecoveryServer is a server of the cluster as the folder knows it.
type RecoveryServer struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	URL   string `json:"url"`
	Voter bool   `json:"voter"`
}

// recoverRisk is what nobody should find out afterwards.
const recoverRisk = `Lost may be: what the other servers acknowledged and this one had not been sent, as far as it was
newer than the entry above. Of several servers that are left recover the one with the highest term,
then the highest index, and give the others an empty data folder. The servers that are gone must
never be started on their old disks again: two of them would be a quorum of the old cluster.`

func (a *app) clusterRecover() *cobra.Command {
	var dir string
	var yes bool
	c := &cobra.Command{
		Use:   "recover",
		Short: "Get the cluster back from one server's disk when a quorum is gone for good",
		Long: `When two of three servers, or three of five, are gone with their disks, those that are left stand
still: they cannot know what the others agreed on. This makes the server with the given data folder
the only voter of its cluster, with the state that it has. It is run on that server's machine while
the server is stopped. Refused while another server of the cluster answers.

` + recoverRisk + `

Without --yes it changes nothing and says what it finds. With it the Raft folder is copied aside
first. Then start the server as before, and new servers as for a server that lost its disk.
With --json: the findings.`,
		Example: `  sudo systemctl stop tunemesh-controlplane
  tunemesh cluster recover --data-dir /var/lib/tunemesh/controlplane
  tunemesh cluster recover --data-dir /var/lib/tunemesh/controlplane --yes`,
		Args: noArgs,
		RunE: a.offline(func(c *call) error {
			r, err := a.Recover(c.ctx, dir, yes)
			if err != nil {
				return err
			}
			if err := c.printRecovery(r); err != nil || yes {
				return err
			}
			return &failure{code: ExitRefused, title: "nothing was changed", hint: "with --yes it is done"}
		}),
	}
	c.Flags().StringVar(&dir, "data-dir", "/var/lib/tunemesh/controlplane", "data `FOLDER` of the server that is left")
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}

func (c *call) printRecovery(r Recovery) error {
	if c.json {
		return c.printJSON(r)
	}
	f := facts{c: c}
	f.add("Server", r.Server.Name+" ("+r.Server.ID+")")
	f.add("Last entry", fmt.Sprintf("term %d, index %d", r.LastTerm, r.LastIndex))
	f.add("Has", fmt.Sprintf("%s, %s, %s", format.Plural(r.OpenJobs, "job that goes on"), format.Plural(r.Attempts, "attempt on a node"), format.Plural(r.Datasets, "dataset")))
	f.print()
	fmt.Fprintln(c.out, "\nServers that do not answer")
	t := table.Table{Columns: []table.Column{{Title: "NAME", Shrink: 8}, {Title: "ID"}, {Title: "VOTES"}, {Title: "URL", Shrink: 16}}}
	for _, o := range r.Others {
		votes := "yes"
		if !o.Voter {
			votes = "not yet"
		}
		t.Row(o.Name, o.ID, votes, o.URL)
	}
	if err := c.table(&t); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\n%s\n\n", recoverRisk)
	if r.Done {
		fmt.Fprintf(c.out, "Done: %s is the only voter, and the cluster goes on from index %d. The old Raft folder is\n%s. Start the server as before, then new ones beside it.\n", format.Clean(r.Server.Name), r.Index, r.Backup)
	}
	return nil
}
