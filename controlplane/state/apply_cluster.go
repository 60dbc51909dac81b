package state

import (
	"bytes"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// clusterKey is the key of the one row of tableCluster.
const clusterKey = "cluster"

// cluster returns a copy of the cluster's row to be changed.
func (m *mutation) cluster() clusterRow {
	row := clusterRow{Key: clusterKey}
	if have := first[clusterRow](m.txn, tableCluster, "id", clusterKey); have != nil {
		row = *have
	}
	row.Index = m.index
	return row
}

func (c SetKeyring) apply(m *mutation) (Result, error) {
	row := m.cluster()
	if len(c.Keyring.CAKey) == 0 || len(c.Keyring.GossipKey) == 0 || c.Keyring.PeerSecret == "" {
		return Result{}, invalid("keyring", "is not whole")
	}
	if len(row.Keyring.CAKey) > 0 {
		if sameJSON(row.Keyring, c.Keyring) {
			return Result{}, nil
		}
		return Result{}, conflict("the cluster has a keyring already")
	}
	row.Keyring = c.Keyring
	m.put(tableCluster, &row)
	return Result{Created: true}, nil
}

func (c SetClusterSettings) apply(m *mutation) (Result, error) {
	row := m.cluster()
	row.Settings = c.Settings
	m.put(tableCluster, &row)
	return Result{}, nil
}

func (c CreateJoinToken) apply(m *mutation) (Result, error) {
	if c.Token.MaxUses < 0 {
		return Result{}, invalid("max_uses", "is %d", c.Token.MaxUses)
	}
	return CreateToken(c).apply(m)
}

func (c UseToken) apply(m *mutation) (Result, error) {
	t, err := usable(m, c.ID, c.By, c.At)
	if err != nil {
		return Result{}, err
	}
	m.use(t, c.By)
	return Result{}, nil
}

// usable returns a join token that by may use now.
func usable(m *mutation, id, by string, at time.Time) (*api.Token, error) {
	t := first[api.Token](m.txn, tableTokens, "id", id)
	switch {
	case t == nil || t.NodeID != "":
		return nil, invalid("token", "is not valid: it was revoked, or never was one to join with")
	case t.Expired(at):
		return nil, invalid("token", "expired at %s: make a new one with `tunemesh token create`", t.ExpiresAt.UTC().Format(time.RFC3339))
	case t.MaxUses > 0 && len(t.UsedBy) >= t.MaxUses && !slices.Contains(t.UsedBy, by):
		return nil, invalid("token", "has been used as often as it may (%d): make a new one with `tunemesh token create`", t.MaxUses)
	}
	return t, nil
}

// use counts a use where uses are counted.
func (m *mutation) use(t *api.Token, by string) {
	if t.MaxUses == 0 || slices.Contains(t.UsedBy, by) {
		return
	}
	used := *t
	used.UsedBy = append(slices.Clone(t.UsedBy), by)
	used.Index = m.index
	m.put(tableTokens, &used)
}

func (c EnrolNode) apply(m *mutation) (Result, error) {
	if err := checkID("id", c.NodeID); err != nil {
		return Result{}, err
	}
	if c.Credential.NodeID != c.NodeID || c.Credential.Role != api.RoleNode || len(c.Credential.Hash) == 0 {
		return Result{}, invalid("credential", "is not this node's")
	}
	have := first[api.Node](m.txn, tableNodes, "id", c.NodeID)
	if have != nil && len(have.PublicKey) > 0 && !bytes.Equal(have.PublicKey, c.PublicKey) {
		return Result{}, conflict("node %q is known with another key: remove the agent's identity to join as a new node", c.NodeID)
	}
	known := have != nil && len(have.PublicKey) > 0
	if !known {
		if c.TokenID == "" {
			return Result{}, invalid("token", "is needed: this node is not known here. Make one with `tunemesh token create --role node`")
		}
		t, err := usable(m, c.TokenID, c.NodeID, c.At)
		if err != nil {
			return Result{}, err
		}
		if t.Role != api.RoleNode {
			return Result{}, invalid("token", "has the role %s, nodes join with one of role node", t.Role)
		}
		m.use(t, c.NodeID)
		n := api.Node{ID: c.NodeID, Name: c.Name, PublicKey: c.PublicKey, JoinedAt: c.At, Index: m.index}
		if have != nil { // it registered before nodes had keys
			n = *have
			n.PublicKey, n.Index = c.PublicKey, m.index
		} else if m.cluster().Settings.RequireApproval {
			n.Approval = api.ApprovalPending
		}
		m.put(tableNodes, &n)
	}
	m.dropCredentials(c.NodeID)
	credential := c.Credential
	credential.Index = m.index
	m.put(tableTokens, &credential)
	return Result{Created: have == nil}, nil
}

func (m *mutation) dropCredentials(nodeID string) {
	for _, old := range all[api.Token](m.txn, tableTokens, "node", nodeID) {
		m.remove(tableTokens, old)
	}
}

func (c ApproveNode) apply(m *mutation) (Result, error) {
	have := first[api.Node](m.txn, tableNodes, "id", c.NodeID)
	if have == nil {
		return Result{}, notFound("there is no node %q", c.NodeID)
	}
	want := ""
	if c.Reject {
		want = api.ApprovalRejected
	}
	if have.Approval != want {
		n := *have
		n.Approval, n.Index = want, m.index
		m.put(tableNodes, &n)
	}
	return Result{}, nil
}

func (c RemoveNode) apply(m *mutation) (Result, error) {
	have := first[api.Node](m.txn, tableNodes, "id", c.NodeID)
	if have == nil {
		return Result{}, notFound("there is no node %q", c.NodeID)
	}
	if live := all[attemptRow](m.txn, tableAttempts, "live", c.NodeID); len(live) > 0 {
		return Result{}, conflict("node %q has %d live attempts: drain it first, and wait or cancel them", c.NodeID, len(live))
	}
	m.remove(tableNodes, have)
	m.dropCredentials(c.NodeID)
	return Result{}, nil
}

// Keyring returns the cluster's keyring, ErrNotFound before it was recorded.
func (v View) Keyring() (Keyring, error) {
	r := first[clusterRow](v.begin(), tableCluster, "id", clusterKey)
	if r == nil || len(r.Keyring.CAKey) == 0 {
		return Keyring{}, notFound("the cluster has no keyring yet")
	}
	return r.Keyring, nil
}

// ClusterSettings returns the settings.
func (v View) ClusterSettings() api.ClusterSettings {
	if r := first[clusterRow](v.begin(), tableCluster, "id", clusterKey); r != nil {
		return r.Settings
	}
	return api.ClusterSettings{}
}
