package state

import "github.com/tunemesh/tunemesh/api"

// SinceKeptModels is the protocol version that brought CreateModel's Keep and
// Amend: servers of before would come to other rows.
const SinceKeptModels = 5

func (c CreateModel) apply(m *mutation) (Result, error) {
	mod := c.Model
	if err := checkID("name", mod.Name); err != nil {
		return Result{}, err
	}
	if have := first[api.Model](m.txn, tableModels, "id", mod.Name); have != nil {
		if have.SHA256 == mod.SHA256 {
			if c.Amend {
				m.amend(*have, mod)
			}
			return Result{}, nil
		}
		if !c.Replace {
			return Result{}, conflict("model %q is already there with other files", mod.Name)
		}
		if c.Keep {
			m.keepBase(*have)
		}
	}
	mod.Index = m.index
	m.put(tableModels, &mod)
	return Result{Created: true}, nil
}

// amend takes over what is said of a model's files, if it is something else.
func (m *mutation) amend(have, said api.Model) {
	n := have
	n.Architecture, n.Parameters, n.License, n.Bundled, n.Source = said.Architecture, said.Parameters, said.License, said.Bundled, said.Source
	if !sameJSON(n, have) {
		n.Index = m.index
		m.put(tableModels, &n)
	}
}

// keepBase gives a model's files to the jobs that may still need them. A job that
// failed or was cancelled may be resumed.
func (m *mutation) keepBase(old api.Model) {
	for _, j := range all[jobRow](m.txn, tableJobs, "id_prefix") {
		if j.Model == old.Name && j.State != api.JobSucceeded && j.Base == nil {
			n := *j
			n.Base = old.Files
			m.put(tableJobs, &n)
		}
	}
}

// Models lists the base models by name.
func (v View) Models() []api.Model {
	return copies(all[api.Model](v.begin(), tableModels, "id_prefix"))
}

// Model returns a base model.
func (v View) Model(name string) (api.Model, error) {
	r := first[api.Model](v.begin(), tableModels, "id", name)
	if r == nil {
		return api.Model{}, notFound("there is no model %q", name)
	}
	return *r, nil
}

// Base lists the files of the base model that a job was submitted with, also after
// another model got its name; none if the job has no model.
func (v View) Base(jobID string) ([]api.Artifact, error) {
	txn := v.begin()
	r := first[jobRow](txn, tableJobs, "id", jobID)
	if r == nil {
		return nil, notFound("there is no job %q", jobID)
	}
	if r.Base != nil || r.Model == "" {
		return r.Base, nil
	}
	m := first[api.Model](txn, tableModels, "id", r.Model)
	if m == nil {
		return nil, notFound("there is no model %q", r.Model)
	}
	return m.Files, nil
}

// BaseFiles lists the files of all base models that somebody may need: of those
// that have a name, and of those that jobs keep which have not succeeded.
func (v View) BaseFiles() []api.Artifact {
	txn := v.begin()
	var out []api.Artifact
	for _, m := range all[api.Model](txn, tableModels, "id_prefix") {
		out = append(out, m.Files...)
	}
	for _, j := range all[jobRow](txn, tableJobs, "id_prefix") {
		if j.State != api.JobSucceeded {
			out = append(out, j.Base...)
		}
	}
	return out
}
