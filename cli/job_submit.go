package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// submission is what job submit was told.
type submission struct {
	spec         api.JobSpec
	configFile   string
	pipelineFile string
	sets         []string
	labels       []string
	task         string
	textColumn   string
	labelColumn  string
	model        string
	watch        bool
	dryRun       bool
}

func (a *app) jobSubmit() *cobra.Command {
	var s submission
	c := &cobra.Command{
		Use:   "submit --dataset ID|FILE",
		Short: "Submit a job",
		Long: `Submit a job: tune a model on a dataset. A file is uploaded first.

The config is put together from --config FILE, then --task, --text-column, --label-column and
--model, then each --set in turn. --set KEY=VALUE guesses the type of the value: numbers, true,
false and null are what they look like, [..] and {..} are JSON, lists of modules take commas, and
what is known to be text stays text.

With --dry-run nothing is uploaded or submitted: what the config leaves open is shown as it would be
settled, each setting with its reason, the memory that the training needs, and which nodes can run
it, or what they lack. A job that would not fit is refused as it would be without, with the nearest
settings that would.

With --json: api.JobDetail, with --dry-run api.JobPlan, or with --watch what job watch prints. The
exit code with --watch is that of job watch.`,
		Example: `  tunemesh job submit --dataset tickets.csv --watch
  tunemesh job submit --dataset ds_3f2a9c41d07b8e65 --text-column body --label-column queue
  tunemesh job submit --dataset tickets.csv --set training.rank=16 --set training.epochs=5
  tunemesh job submit --dataset tickets.csv --set training.target_modules=q_proj,v_proj
  tunemesh job submit --dry-run --set training.method=full
  tunemesh job submit --dataset more.csv --set training.init_adapter=01JDCK3V5W8M2N4P6Q7R8S9T0V
  tunemesh job submit --dataset tickets.csv --config job.json --pipeline dag.json --name nightly`,
		Args: noArgs,
		RunE: a.offline(func(c *call) error { return c.submit(s) }),
	}
	f := c.Flags()
	f.StringVar(&s.spec.Dataset, "dataset", "", "`id` of a dataset, or a file to upload, or - for standard input")
	f.StringVar(&s.spec.Name, "name", "", "a `name` for people")
	f.StringVar(&s.spec.ID, "id", "", "choose the job's `ULID`: the same id with the same job is submitted once")
	f.IntVar(&s.spec.Priority, "priority", 0, "-100 to 100; higher goes first")
	f.StringArrayVar(&s.labels, "label", nil, "a label of the job, `KEY=VALUE`; repeat it for more")
	f.StringVar(&s.configFile, "config", "", "config `FILE`, a JSON object, - for standard input")
	f.StringArrayVar(&s.sets, "set", nil, "one `KEY=VALUE` of the config; repeat it for more")
	f.StringVar(&s.task, "task", "", "what the model learns: "+strings.Join(tasks, ", "))
	f.StringVar(&s.textColumn, "text-column", "", "`column` of the input (default: found by itself)")
	f.StringVar(&s.labelColumn, "label-column", "", "`column` of the answer (default: found by itself)")
	f.StringVar(&s.model, "model", "", "`name` of the base model")
	f.StringVar(&s.pipelineFile, "pipeline", "", "`FILE` with a pipeline of your own, JSON: nodes and edges")
	f.BoolVar(&s.watch, "watch", false, "watch the job to its end")
	f.BoolVar(&s.dryRun, "dry-run", false, "say what the job would do, and submit nothing")
	a.completeSubmit(c)
	return c
}

func (a *app) completeSubmit(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("task", fixed(tasks...))
	_ = c.RegisterFlagCompletionFunc("model", a.complete(modelNames))
	_ = c.RegisterFlagCompletionFunc("dataset", func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return a.completions(cmd, nil, typed, datasetIDs), cobra.ShellCompDirectiveDefault // and files
	})
	_ = c.RegisterFlagCompletionFunc("set", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, keys := range [][]string{textKeys, listKeys, otherKeys} {
			for _, key := range keys {
				if strings.HasPrefix(key, typed) {
					out = append(out, key+"=")
				}
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	for _, name := range []string{"config", "pipeline"} {
		_ = c.MarkFlagFilename(name, "json")
	}
}

var datasetID = regexp.MustCompile(`^ds_[0-9a-f]{16}$`)

func (c *call) submit(s submission) error {
	spec, err := c.spec(s)
	if err != nil {
		return err
	}
	if s.dryRun {
		return c.plan(spec)
	}
	src, err := c.datasetFile(spec.Dataset)
	if err != nil {
		return err
	}
	if src != nil {
		defer src.close()
	}
	if err := c.dial(); err != nil {
		return err
	}
	if src != nil {
		d, err := c.upload(src)
		if err != nil {
			return err
		}
		if !c.json {
			fmt.Fprintf(c.err, "Uploaded %s as %s (%s)\n", format.Cut(format.Clean(d.Name), 50), d.ID, format.Bytes(d.Size))
		}
		spec.Dataset = d.ID
	}
	if spec.ID == "" {
		spec.ID = ulid.Make().String()
	}
	job, err := c.mesh.SubmitJob(c.ctx, spec)
	if err != nil {
		return unsure(err, spec)
	}
	switch {
	case s.watch:
		return c.watch(job.ID)
	case c.json:
		return c.printJSON(job)
	}
	fmt.Fprintf(c.out, "Job %s is %s.\n", job.ID, job.State)
	fmt.Fprintf(c.err, "Watch it: tunemesh job watch %s\n", job.ID)
	return nil
}

// unsure says how to repeat a submission that may have taken effect.
func unsure(err error, spec api.JobSpec) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Outcome != "unknown" {
		return err
	}
	f := *explain(err)
	f.cause = err
	f.hint = fmt.Sprintf("the job may have been submitted or not; repeat it with --dataset %s --id %s and it is submitted once", spec.Dataset, spec.ID)
	return &f
}

// spec puts the job together and finds what is wrong with it before anything
// is sent.
func (c *call) spec(s submission) (api.JobSpec, error) {
	spec := s.spec
	if spec.Dataset == "" && !s.dryRun {
		return spec, usage(c.cmd, "%s needs --dataset", c.cmd.CommandPath())
	}
	inputs := 0
	for _, path := range []string{spec.Dataset, s.configFile, s.pipelineFile} {
		if path == "-" {
			inputs++
		}
	}
	if inputs > 1 {
		return spec, usage(c.cmd, "only one of --dataset, --config and --pipeline can be standard input")
	}
	if spec.Priority < -100 || spec.Priority > 100 {
		return spec, usage(c.cmd, "--priority %d is not between -100 and 100", spec.Priority)
	}
	if spec.ID != "" {
		if _, err := ulid.ParseStrict(spec.ID); err != nil {
			return spec, usage(c.cmd, "--id %s is no ULID: 26 characters of Crockford's base 32", clip(spec.ID))
		}
	}
	for _, label := range s.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" {
			return spec, usage(c.cmd, "--label %s is no KEY=VALUE", clip(label))
		}
		if spec.Labels == nil {
			spec.Labels = map[string]string{}
		}
		spec.Labels[key] = value
	}
	var err error
	if spec.Config, err = c.config(s); err != nil {
		return spec, err
	}
	spec.Pipeline, err = c.pipeline(s.pipelineFile)
	return spec, err
}

func (c *call) config(s submission) (json.RawMessage, error) {
	conf := config{}
	if s.configFile != "" {
		data, err := c.readAll(s.configFile)
		if err != nil {
			return nil, err
		}
		if conf, err = parseConfig(data, s.configFile); err != nil {
			return nil, err
		}
	}
	for _, own := range [][2]string{{"task", s.task}, {"text_column", s.textColumn}, {"label_column", s.labelColumn}, {"model", s.model}} {
		if own[1] != "" {
			conf[own[0]] = own[1]
		}
	}
	for _, assignment := range s.sets {
		if err := conf.set(assignment); err != nil {
			return nil, err
		}
	}
	return conf.document()
}

// pipeline reads and checks a pipeline by the same rules as the server.
func (c *call) pipeline(path string) (*api.Pipeline, error) {
	if path == "" {
		return nil, nil
	}
	data, err := c.readAll(path)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	var p api.Pipeline
	err = d.Decode(&p)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return nil, wrong("", "%s holds more than one JSON value", clip(path))
		}
	}
	if err != nil {
		return nil, wrong("a pipeline is {\"nodes\": [{\"name\": \"dataset\"}, ...], \"edges\": [{\"from\": \"dataset\", \"to\": \"validation\"}, ...]}", "%s is no pipeline: %s", clip(path), jsonFault(data, err))
	}
	if faults := p.Normalize().Validate(); len(faults) > 0 {
		return nil, &failure{code: ExitUsage, title: clip(path) + " is no valid pipeline", fields: faults}
	}
	return &p, nil
}

// datasetFile opens the file that --dataset names, or returns nothing for the
// id of a dataset.
func (c *call) datasetFile(dataset string) (*source, error) {
	if dataset != "-" {
		if _, err := os.Stat(dataset); os.IsNotExist(err) {
			if datasetID.MatchString(dataset) {
				return nil, nil
			}
			return nil, wrong("`tunemesh dataset list` shows the ids of those that were uploaded", "there is no file %s, and it is no dataset's id (ds_ and 16 hex digits)", clip(dataset))
		}
	}
	return openSource(dataset, "", c.cmd.InOrStdin())
}
