package state

import (
	"bytes"

	"github.com/tunemesh/tunemesh/api"
)

func (c UpsertNode) apply(m *mutation) (Result, error) {
	if err := checkID("id", c.Node.ID); err != nil {
		return Result{}, err
	}
	n := c.Node
	// What only the leader's memory knows is no part of the state.
	n.Status, n.LastSeen, n.Running = "", nil, 0
	n.JoinedAt, n.Index = c.At, m.index
	have := first[api.Node](m.txn, tableNodes, "id", n.ID)
	if have != nil {
		if !bytes.Equal(have.PublicKey, n.PublicKey) {
			return Result{}, conflict("node %q is known with another key: remove the agent's identity to join as a new node", n.ID)
		}
		n.JoinedAt, n.Drain, n.Approval = have.JoinedAt, have.Drain, have.Approval
		same := n
		same.Index = have.Index
		if sameJSON(same, *have) {
			return Result{}, nil
		}
	}
	m.put(tableNodes, &n)
	return Result{Created: have == nil}, nil
}

func (c SetDrain) apply(m *mutation) (Result, error) {
	have := first[api.Node](m.txn, tableNodes, "id", c.NodeID)
	if have == nil {
		return Result{}, notFound("there is no node %q", c.NodeID)
	}
	if have.Drain != c.Drain {
		n := *have
		n.Drain, n.Index = c.Drain, m.index
		m.put(tableNodes, &n)
	}
	return Result{}, nil
}

func (c CreateDataset) apply(m *mutation) (Result, error) {
	d := c.Dataset
	if err := checkID("id", d.ID); err != nil {
		return Result{}, err
	}
	if have := first[api.Dataset](m.txn, tableDatasets, "id", d.ID); have != nil {
		if have.SHA256 == d.SHA256 && have.Size == d.Size {
			return Result{}, nil
		}
		return Result{}, conflict("dataset %q is already there with other bytes", d.ID)
	}
	d.Index = m.index
	m.put(tableDatasets, &d)
	return Result{Created: true}, nil
}

func (c CreateToken) apply(m *mutation) (Result, error) {
	t := c.Token
	if err := checkID("id", t.ID); err != nil {
		return Result{}, err
	}
	if len(t.Hash) == 0 {
		return Result{}, invalid("hash", "is empty")
	}
	if have := first[api.Token](m.txn, tableTokens, "id", t.ID); have != nil {
		if bytes.Equal(have.Hash, t.Hash) {
			return Result{}, nil
		}
		return Result{}, conflict("token %q is already there", t.ID)
	}
	if other := first[api.Token](m.txn, tableTokens, "hash", string(t.Hash)); other != nil {
		return Result{}, conflict("the secret is already that of token %q", other.ID)
	}
	t.Index = m.index
	m.put(tableTokens, &t)
	return Result{Created: true}, nil
}

func (c RevokeToken) apply(m *mutation) (Result, error) {
	t := first[api.Token](m.txn, tableTokens, "id", c.ID)
	if t == nil {
		return Result{}, notFound("there is no token %q", c.ID)
	}
	m.remove(tableTokens, t)
	return Result{}, nil
}

func (c UpsertServer) apply(m *mutation) (Result, error) {
	s := c.Server
	if err := checkID("id", s.ID); err != nil {
		return Result{}, err
	}
	if have := first[Server](m.txn, tableServers, "id", s.ID); have != nil {
		s.Index = have.Index
		if s == *have {
			return Result{}, nil
		}
	}
	s.Index = m.index
	m.put(tableServers, &s)
	return Result{Created: true}, nil
}

func (c RemoveServer) apply(m *mutation) (Result, error) {
	if s := first[Server](m.txn, tableServers, "id", c.ID); s != nil {
		m.remove(tableServers, s)
	}
	return Result{}, nil
}

func (c SetMinVersion) apply(m *mutation) (Result, error) {
	have := first[metaRow](m.txn, tableMeta, "id", metaMinVersion)
	if c.Version < 1 {
		return Result{}, invalid("version", "is %d, want 1 or more", c.Version)
	}
	if have != nil && uint64(c.Version) <= have.Value {
		return Result{}, nil
	}
	m.put(tableMeta, &metaRow{Key: metaMinVersion, Value: uint64(c.Version)})
	return Result{}, nil
}
