package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func (a *app) modelCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "model", Aliases: []string{"models"},
		Short: "Look at the base models of the mesh",
		Long:  "A model is a base model that jobs tune: its weights, its tokenizer and its template.",
		Example: `  tunemesh model list
  tunemesh model show tunemesh-mini`,
	}
	group.AddCommand(a.modelList(), a.modelShow())
	if a.Import != nil {
		group.Short = "Pull, import and look at the base models of the mesh"
		group.Example += "\n  tunemesh model pull hf:HuggingFaceTB/SmolLM2-135M-Instruct\n  tunemesh model import ./SmolLM2-135M-Instruct --name smollm2"
		group.AddCommand(a.modelPull(), a.modelImport())
	}
	return group
}

func (a *app) modelList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short:   "List the base models",
		Long:    "List the base models.\nWith --json: an array of api.Model.",
		Example: "  tunemesh model list",
		Args:    noArgs,
		RunE: a.online(func(c *call) error {
			list, err := c.mesh.Models(c.ctx)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "The mesh has no base model yet.")
				return nil
			}
			t := table.Table{Columns: []table.Column{{Title: "NAME", Shrink: 16}, {Title: "ARCHITECTURE", Shrink: 12}, {Title: "PARAMETERS", Right: true}, {Title: "SIZE", Right: true}, {Title: "LICENSE", Shrink: 8}, {Title: "AGE", Right: true}}}
			for _, m := range list {
				t.Row(m.Name, m.Architecture, parameters(m), format.Bytes(size(m.Files)), m.License, format.Age(m.CreatedAt, c.Now()))
			}
			return c.table(&t)
		}),
	}
}

func parameters(m api.Model) string {
	if m.Parameters <= 0 {
		return ""
	}
	return format.Short(m.Parameters)
}

func size(files []api.Artifact) int64 {
	var sum int64
	for _, f := range files {
		sum += f.Size
	}
	return sum
}

func (a *app) modelShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Aliases: []string{"get"},
		Short:             "Show a base model and its files",
		Long:              "Show a base model and its files.\nWith --json: api.Model.",
		Example:           "  tunemesh model show tunemesh-mini",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.complete(modelNames),
		RunE: a.online(func(c *call) error {
			m, err := c.mesh.Model(c.ctx, c.args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(m)
			}
			f := facts{c: c}
			f.add("Model", m.Name)
			f.add("Architecture", m.Architecture)
			if m.Parameters > 0 {
				f.add("Parameters", format.Count(m.Parameters))
			}
			f.add("License", m.License)
			f.add("Source", m.Source)
			f.add("SHA-256", m.SHA256)
			f.add("Added", c.when(m.CreatedAt))
			f.print()
			fmt.Fprintln(c.out)
			t := table.Table{Columns: []table.Column{{Title: "FILE", Shrink: 16}, {Title: "SIZE", Right: true}, {Title: "STORED AT", Shrink: 20, Middle: true}}}
			for _, file := range m.Files {
				t.Row(file.Name, format.Bytes(file.Size), file.Bucket+"/"+file.Key)
			}
			return c.table(&t)
		}),
	}
}

func modelNames(ctx context.Context, m Mesh, _ []string) ([]string, error) {
	list, err := m.Models(ctx)
	var out []string
	for _, model := range list {
		out = append(out, model.Name+"\t"+format.Clean(model.Architecture))
	}
	return out, err
}
