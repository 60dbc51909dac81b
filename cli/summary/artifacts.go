package summary

import (
	"path"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// artifacts lists where the files lie, one line per folder.
func (p *printer) artifacts(job api.JobDetail, list []api.StageArtifact) {
	if list == nil {
		for _, s := range job.Stages {
			for _, a := range s.Artifacts {
				list = append(list, api.StageArtifact{Stage: s.Name, Artifact: a})
			}
		}
	}
	if len(list) == 0 {
		return
	}
	type folder struct {
		stage, place, what string
		files              int
		size               int64
	}
	var folders []*folder
	for _, a := range list {
		place := a.Bucket + "/" + path.Dir(a.Key) + "/"
		i := slices.IndexFunc(folders, func(f *folder) bool { return f.place == place && f.stage == a.Stage })
		if i < 0 {
			folders = append(folders, &folder{stage: a.Stage, place: place, what: path.Base(a.Key)})
			i = len(folders) - 1
		}
		folders[i].files++
		folders[i].size += a.Size
	}
	p.title("Artifacts")
	t := table.Table{Columns: []table.Column{{Title: "STAGE", Shrink: 8}, {Title: "FILES", Right: true}, {Title: "SIZE", Right: true}, {Title: "PLACE IN THE OBJECT STORE", Shrink: 30, Middle: true}}}
	for _, f := range folders {
		place := f.place
		if f.files == 1 {
			place += f.what
		}
		t.Row(f.stage, format.Count(int64(f.files)), format.Bytes(f.size), place)
	}
	p.table(&t)
	p.line("  get one:  tunemesh artifact get %s NAME", job.ID)
}
