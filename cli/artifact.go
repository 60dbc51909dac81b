package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func (a *app) artifactCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "artifact", Aliases: []string{"artifacts"},
		Short: "List and fetch what the stages of a job made",
		Long:  "An artifact is a file that a stage made: an adapter, a merged model, a report.",
		Example: `  tunemesh artifact list 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh artifact get 01JDCK3V5W8M2N4P6Q7R8S9T0V adapter -o ./adapter`,
	}
	group.AddCommand(a.artifactList(), a.artifactGet())
	return group
}

func (a *app) artifactList() *cobra.Command {
	var stage string
	c := &cobra.Command{
		Use: "list JOB", Aliases: []string{"ls"},
		Short: "List a job's artifacts",
		Long:  "List a job's artifacts.\nWith --json: an array of api.StageArtifact, each with a link that anybody can fetch for a while.",
		Example: `  tunemesh artifact list 01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh artifact list 01JDCK3V5W8M2N4P6Q7R8S9T0V --stage export`,
		Args:              exactArgs("JOB"),
		ValidArgsFunction: a.complete(jobIDs),
		RunE: a.online(func(c *call) error {
			list, err := c.artifacts(c.args[0], stage)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "No stage has made an artifact yet.")
				return nil
			}
			t := table.Table{Columns: []table.Column{{Title: "STAGE", Shrink: 8}, {Title: "NAME", Shrink: 16, Keep: true}, {Title: "SIZE", Right: true}, {Title: "STORED AT", Shrink: 20, Middle: true}}}
			for _, a := range list {
				t.Row(a.Stage, a.Name, format.Bytes(a.Size), a.Bucket+"/"+a.Key)
			}
			return c.table(&t)
		}),
	}
	c.Flags().StringVar(&stage, "stage", "", "only those of this `stage`")
	return c
}

// artifacts lists a job's artifacts, of one stage or of all.
func (c *call) artifacts(job, stage string) ([]api.StageArtifact, error) {
	list, err := c.mesh.Artifacts(c.ctx, job)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(a api.StageArtifact) bool { return stage != "" && a.Stage != stage }), nil
}

// fetch is what artifact get was told.
type fetch struct {
	stage  string
	output string
	all    bool
	force  bool
}

func (a *app) artifactGet() *cobra.Command {
	var f fetch
	c := &cobra.Command{
		Use:   "get JOB NAME...",
		Short: "Fetch artifacts by name, or whole folders of them",
		Long: `Fetch artifacts. A NAME is that of one artifact or of a folder: adapter fetches everything under
adapter/. Size and SHA-256 are checked. The files appear when all of them are whole; if one cannot
be fetched, none does.
With --json: an array of the api.StageArtifact that were fetched.`,
		Example: `  tunemesh artifact get 01JDCK3V5W8M2N4P6Q7R8S9T0V metrics.json -o -
  tunemesh artifact get 01JDCK3V5W8M2N4P6Q7R8S9T0V adapter merged -o ./out
  tunemesh artifact get 01JDCK3V5W8M2N4P6Q7R8S9T0V --all`,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(c, "%s needs JOB and NAME", c.CommandPath())
			case len(args) == 1 && !f.all:
				return usage(c, "%s needs a NAME, or --all", c.CommandPath())
			case len(args) > 1 && f.all:
				return usage(c, "--all fetches everything: leave the names out")
			}
			return nil
		},
		ValidArgsFunction: a.completeArtifacts(),
		RunE:              a.online(func(c *call) error { return c.fetch(f) }),
	}
	c.Flags().StringVar(&f.stage, "stage", "", "only those of this `stage`")
	c.Flags().StringVarP(&f.output, "output", "o", "", "`path` of the file or folder to write, - for standard output (default: the current folder)")
	c.Flags().BoolVar(&f.all, "all", false, "fetch all artifacts of the job")
	c.Flags().BoolVar(&f.force, "force", false, "replace files that are there")
	return c
}

func (c *call) fetch(f fetch) error {
	all, err := c.artifacts(c.args[0], f.stage)
	if err != nil {
		return err
	}
	wanted, err := choose(all, c.args[1:], c.args[0])
	if err != nil {
		return err
	}
	if f.output == "-" {
		if len(wanted) != 1 {
			return wrong("name one artifact, or a folder to write to", "%d artifacts do not fit into one stream", len(wanted))
		}
		return c.mesh.Download(c.ctx, wanted[0].Artifact, c.out)
	}
	paths, err := f.paths(wanted)
	if err != nil {
		return err
	}
	if err := c.fetchAll(wanted, paths); err != nil {
		return err
	}
	if c.json {
		return printList(c, wanted)
	}
	for i, a := range wanted {
		fmt.Fprintf(c.out, "%s  %s\n", paths[i], format.Bytes(a.Size))
	}
	return nil
}

// choose picks the artifacts that the names stand for; no name is all of them.
func choose(all []api.StageArtifact, names []string, job string) ([]api.StageArtifact, error) {
	if len(names) == 0 {
		if len(all) == 0 {
			return nil, &failure{code: ExitRefused, title: "the job has no artifact", hint: "see how far it is: tunemesh job show " + job}
		}
		return all, nil
	}
	var out []api.StageArtifact
	for _, name := range names {
		name = strings.TrimSuffix(name, "/")
		before := len(out)
		from := map[string]string{}
		for _, a := range all {
			if a.Name != name && !strings.HasPrefix(a.Name, name+"/") {
				continue
			}
			if other, twice := from[a.Name]; twice {
				return nil, wrong("choose one with --stage", "the stages %s and %s both made %s", other, a.Stage, clip(a.Name))
			}
			from[a.Name] = a.Stage
			out = append(out, a)
		}
		if len(out) == before {
			return nil, &failure{code: ExitRefused, title: "the job has no artifact " + clip(name), hint: "tunemesh artifact list " + job + " shows them"}
		}
	}
	return out, nil
}

// paths says where each artifact goes. Nothing is written outside the folder,
// whatever a stage called its files.
func (f fetch) paths(wanted []api.StageArtifact) ([]string, error) {
	info, err := os.Stat(f.output)
	folder := f.output == "" || len(wanted) > 1 || strings.HasSuffix(f.output, "/") || (err == nil && info.IsDir())
	paths := make([]string, len(wanted))
	seen := map[string]bool{}
	for i, a := range wanted {
		name := filepath.FromSlash(a.Name)
		if f.all { // stages may use the same names
			name = filepath.Join(a.Stage, name)
		}
		if !filepath.IsLocal(name) {
			return nil, &failure{code: ExitRefused, title: fmt.Sprintf("the artifact %s would be written outside the folder", clip(a.Name)), hint: "fetch it with -o FILE"}
		}
		paths[i] = f.output
		if folder {
			paths[i] = filepath.Join(f.output, name)
		}
		if seen[paths[i]] {
			return nil, wrong("fetch them one by one, with --stage", "two artifacts would be written to %s", clip(paths[i]))
		}
		seen[paths[i]] = true
		switch info, err := os.Lstat(paths[i]); {
		case err == nil && info.IsDir():
			return nil, wrong("choose another place with -o", "%s is a folder, where a file is to be written", clip(paths[i]))
		case err == nil && !f.force:
			return nil, wrong("choose another place with -o, or --force to replace it", "%s is there already", clip(paths[i]))
		}
	}
	return paths, nil
}

func (a *app) completeArtifacts() cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return a.completions(cmd, args, typed, jobIDs), cobra.ShellCompDirectiveNoFileComp
		}
		names := func(ctx context.Context, m Mesh, args []string) ([]string, error) {
			list, err := m.Artifacts(ctx, args[0])
			var out []string
			for _, a := range list {
				out = append(out, a.Name+"\t"+a.Stage+" "+format.Bytes(a.Size))
			}
			return out, err
		}
		return a.completions(cmd, args, typed, names), cobra.ShellCompDirectiveNoFileComp
	}
}

// readAll reads a small file of the user's, or standard input for "-".
func (c *call) readAll(path string) ([]byte, error) {
	const most = 1 << 20
	var r io.Reader = c.cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fileFault(path, err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fileFault(path, err)
	}
	if len(data) > most {
		return nil, wrong("", "%s is over 1 MiB", clip(path))
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}
