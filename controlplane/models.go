package controlplane

import (
	"context"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// tidyModels writes the manifests of base models that lack them, as after an import
// whose server was killed or that an older program made, and removes the bytes that
// no model needs.
func (s *Server) tidyModels(term context.Context) error {
	for _, m := range s.raft.Store().Models() {
		if err := s.objects.PutManifest(term, m); err != nil {
			return err
		}
	}
	removed, err := s.objects.SweepModels(term, s.config.SweepAge, knownModels{s.raft.Store()})
	if removed > 0 {
		s.config.Log.Info("removed bytes that no base model needs", "objects", removed)
	}
	return err
}

// knownModels are the base models of the replicated state. It implements
// artifacts.Known.
type knownModels struct{ store *state.Store }

func (k knownModels) Current(model string) (string, bool) {
	m, err := k.store.Model(model)
	return m.SHA256, err == nil
}

func (k knownModels) Needed() map[string]bool {
	keys := map[string]bool{}
	for _, f := range k.store.BaseFiles() {
		keys[f.Key] = true
	}
	return keys
}
