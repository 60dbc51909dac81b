package state_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func keyring() state.Command {
	return state.SetKeyring{Keyring: state.Keyring{CACert: []byte("cert"), CAKey: []byte("ca"), GossipKey: key(1), PeerSecret: "peer"}}
}

func step(s state.KeyStep, b byte) state.Command { return state.ChangeGossipKey{Step: s, Key: key(b)} }

func TestTheGossipsKeyIsExchangedInThreeSteps(t *testing.T) {
	s, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	index := uint64(0)
	apply := func(c state.Command) error {
		t.Helper()
		entry, err := state.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		index++
		r, err := s.Apply(index, entry)
		if err != nil {
			t.Fatal(err)
		}
		return r.Err
	}
	if err := apply(step(state.AddKey, 2)); !errors.Is(err, state.ErrConflict) {
		t.Errorf("without a keyring: %v", err)
	}
	if len(s.GossipKeys().All()) != 0 {
		t.Error("a cluster without keyring has keys")
	}
	if err := apply(keyring()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		step state.KeyStep
		key  byte
		want error
		all  []byte // the keys afterwards, by their byte
	}{
		{state.UseKey, 2, state.ErrConflict, []byte{1}}, // out of order
		{state.RemoveKey, 1, state.ErrConflict, []byte{1}},
		{state.AddKey, 1, nil, []byte{1}}, // it has it
		{state.AddKey, 2, nil, []byte{1, 2}},
		{state.AddKey, 2, nil, []byte{1, 2}}, // a repeat
		{state.AddKey, 3, state.ErrConflict, []byte{1, 2}},
		{state.UseKey, 3, state.ErrConflict, []byte{1, 2}},
		{state.RemoveKey, 2, state.ErrConflict, []byte{1, 2}},
		{state.UseKey, 2, nil, []byte{2, 1}},
		{state.UseKey, 2, nil, []byte{2, 1}},
		{state.AddKey, 3, state.ErrConflict, []byte{2, 1}},
		{state.RemoveKey, 2, state.ErrConflict, []byte{2, 1}},
		{state.RemoveKey, 1, nil, []byte{2}},
		{state.RemoveKey, 1, nil, []byte{2}},
		{state.AddKey, 3, nil, []byte{2, 3}},
		{"burn", 3, state.ErrInvalid, []byte{2, 3}},
	} {
		err := apply(step(c.step, c.key))
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s %d: %v, want %v", c.step, c.key, err, c.want)
		}
		var all []byte
		for _, k := range s.GossipKeys().All() {
			all = append(all, k[0])
		}
		if !bytes.Equal(all, c.all) {
			t.Errorf("after %s %d the keys are %v, want %v", c.step, c.key, all, c.all)
		}
	}
	if err := apply(state.ChangeGossipKey{Step: state.AddKey, Key: []byte("short")}); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("a short key: %v", err)
	}
	// The keys stay the cluster's through a restore, also of an older backup.
	backup, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := backup.Graft(s.At(), index+1); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(backup.GossipKeys().Primary, key(2)) {
		t.Error("a restored state has other keys than its cluster")
	}
}

// commandsOf4 are those that protocol version 4 brought.
func commandsOf4() []state.Command {
	return []state.Command{
		state.SetMinVersion{Version: 4}, keyring(),
		step(state.AddKey, 2), step(state.UseKey, 2), step(state.RemoveKey, 1), step(state.AddKey, 3),
		state.SetClusterSettings{Settings: api.ClusterSettings{RequireApproval: true}},
	}
}

func TestGoldenLogAndSnapshotOfGossipKeys(t *testing.T) {
	_, restored := golden(t, "v4-gossip-keys", commandsOf4())
	if k := restored.GossipKeys(); !bytes.Equal(k.Primary, key(2)) || !bytes.Equal(k.Coming, key(3)) || len(k.Going) != 0 {
		t.Errorf("keys %+v", k)
	}
}
