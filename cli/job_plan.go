package cli

import (
	"fmt"
	"os"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// plan shows what a job would do. A file is not uploaded for it: what is settled
// does not depend on it.
func (c *call) plan(spec api.JobSpec) error {
	if !datasetID.MatchString(spec.Dataset) {
		if spec.Dataset != "" && spec.Dataset != "-" {
			if _, err := os.Stat(spec.Dataset); err != nil {
				return wrong("", "--dataset %s is neither a file nor a dataset's id", clip(spec.Dataset))
			}
		}
		spec.Dataset = ""
	}
	if err := c.dial(); err != nil {
		return err
	}
	p, err := c.mesh.PlanJob(c.ctx, spec)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(p)
	}
	if len(p.Stages) == 0 {
		fmt.Fprintln(c.out, "The job is valid. It has no training whose settings could be told now.")
		return nil
	}
	for i, stage := range p.Stages {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		if err := c.planned(p.Model, stage); err != nil {
			return err
		}
	}
	fmt.Fprintln(c.err, "Nothing was submitted.")
	return nil
}

// planned shows the plan of one stage.
func (c *call) planned(model string, stage api.StagePlan) error {
	f := facts{c: c}
	f.add("Stage", stage.Stage)
	f.add("Model", model)
	f.add("Engine", stage.Engine)
	if stage.MemoryBytes > 0 {
		f.add("Memory", format.Bytes(stage.MemoryBytes))
	}
	if stage.Waits != "" {
		f.add("Would wait", stage.Waits)
	}
	f.print()
	fmt.Fprintln(c.out, "\nWhat the config leaves open:")
	open := facts{c: c}
	for _, s := range stage.Settings {
		if s.Field == "memory" && stage.Engine == "native" {
			continue // its parts stand below, and more there is not to say
		}
		open.add("  "+s.Field, s.Value+": "+s.Reason)
	}
	open.print()
	memory := table.Table{Columns: []table.Column{{Title: "MEMORY OF"}, {Title: "BYTES", Right: true}}}
	for _, part := range stage.Memory {
		memory.Row(part.Name, format.Bytes(part.Bytes))
	}
	nodes := table.Table{Columns: []table.Column{{Title: "NODE"}, {Title: "CAN RUN IT"}, {Title: "ON, OR WHY NOT"}}}
	for _, n := range stage.Nodes {
		can := "no"
		if n.CanRun {
			can = "yes"
		}
		nodes.Row(n.Node, can, n.Reason)
	}
	for _, t := range []struct {
		rows  int
		table table.Table
	}{{len(stage.Memory), memory}, {len(stage.Nodes), nodes}} {
		if t.rows == 0 {
			continue
		}
		fmt.Fprintln(c.out)
		if err := t.table.Write(c.out, c.scr.Width, c.scr.Style); err != nil {
			return err
		}
	}
	return nil
}
