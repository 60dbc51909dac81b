package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func (a *app) datasetCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "dataset", Aliases: []string{"datasets"},
		Short: "Upload and look at datasets",
		Long:  "A dataset is an uploaded CSV, TSV or JSONL file. It never changes: the same bytes are the same\ndataset.",
		Example: `  tunemesh dataset upload tickets.csv
  tunemesh dataset list`,
	}
	group.AddCommand(a.datasetUpload(), a.datasetList(), a.datasetShow())
	if a.Preview != nil {
		group.Example = "  tunemesh dataset preview tickets.csv\n" + group.Example
		group.AddCommand(a.datasetPreview())
	}
	return group
}

func (a *app) datasetUpload() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "upload FILE|-",
		Short: "Upload a file, or standard input",
		Long: `Upload a CSV, TSV or JSONL file. The file is streamed as it is and checked when a job reads it.
With --json: the dataset (api.Dataset).`,
		Example: `  tunemesh dataset upload tickets.csv
  zcat tickets.jsonl.gz | tunemesh dataset upload - --name tickets.jsonl
  id=$(tunemesh dataset upload tickets.csv --json | jq -r .id)`,
		Args: exactArgs("FILE"),
		RunE: a.offline(func(c *call) error {
			src, err := openSource(c.args[0], name, c.cmd.InOrStdin()) // before the network: it is the likelier fault
			if err != nil {
				return err
			}
			defer src.close()
			if err := c.dial(); err != nil {
				return err
			}
			d, err := c.upload(src)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(d)
			}
			fmt.Fprintf(c.out, "%s  %s  %s\n", d.ID, format.Bytes(d.Size), format.Cut(format.Clean(d.Name), 60))
			fmt.Fprintf(c.err, "Next: tunemesh job submit --dataset %s --watch\n", d.ID)
			return nil
		}),
	}
	c.Flags().StringVar(&name, "name", "", "`name` of the dataset; its ending says the format (default: the file's name)")
	return c
}

func (a *app) datasetList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the datasets, newest first",
		Long:  "List the datasets, newest first.\nWith --json: an array of api.Dataset.",
		Example: `  tunemesh dataset list
  tunemesh dataset list --json | jq -r '.[].id'`,
		Args: noArgs,
		RunE: a.online(func(c *call) error {
			list, err := c.mesh.Datasets(c.ctx)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "There is no dataset yet. Upload one: tunemesh dataset upload FILE")
				return nil
			}
			t := table.Table{Columns: []table.Column{{Title: "ID"}, {Title: "NAME", Shrink: 12}, {Title: "FORMAT"}, {Title: "SIZE", Right: true}, {Title: "BY", Shrink: 8}, {Title: "AGE", Right: true}}}
			for _, d := range list {
				t.Row(d.ID, d.Name, d.Format, format.Bytes(d.Size), d.CreatedBy, format.Age(d.CreatedAt, c.Now()))
			}
			return c.table(&t)
		}),
	}
}

func (a *app) datasetShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Aliases: []string{"get"},
		Short:             "Show one dataset",
		Long:              "Show one dataset.\nWith --json: api.Dataset.",
		Example:           "  tunemesh dataset show ds_3f2a9c41d07b8e65",
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(datasetIDs),
		RunE: a.online(func(c *call) error {
			d, err := c.mesh.Dataset(c.ctx, c.args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(d)
			}
			f := facts{c: c}
			f.add("Dataset", d.ID)
			f.add("Name", d.Name)
			f.add("Format", d.Format)
			f.add("Size", fmt.Sprintf("%s (%s bytes)", format.Bytes(d.Size), format.Count(d.Size)))
			f.add("SHA-256", d.SHA256)
			f.add("Stored at", api.BucketDatasets+"/"+d.Key)
			f.add("Uploaded", c.when(d.CreatedAt)+by(d.CreatedBy))
			f.print()
			return nil
		}),
	}
}

// upload sends a file, with a bar on a terminal.
func (c *call) upload(src *source) (api.Dataset, error) {
	bar := c.progress("upload "+filepath.Base(src.name), src.size)
	defer bar.end()
	d, err := c.mesh.UploadDataset(c.ctx, src.name, bar.reader(src.body), src.size)
	if err != nil {
		return d, fmt.Errorf("upload %s: %w", src.name, err)
	}
	return d, nil
}

func by(user string) string {
	if user == "" {
		return ""
	}
	return " by " + user
}

// when writes a time with its age.
func (c *call) when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(c.location()).Format("2006-01-02 15:04:05 MST") + " (" + format.Age(t, c.Now()) + " ago)"
}

func datasetIDs(ctx context.Context, m Mesh, _ []string) ([]string, error) {
	list, err := m.Datasets(ctx)
	var out []string
	for _, d := range list {
		out = append(out, d.ID+"\t"+format.Clean(d.Name))
	}
	return out, err
}
