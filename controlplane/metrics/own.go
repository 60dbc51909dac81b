package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// own tells of this server's part in Raft and in the gossip.
type own struct{ Config }

var (
	raftLeader    = desc("raft_leader", "1 on the server that leads, 0 on the others.")
	raftHasLeader = desc("raft_has_leader", "1 if this server knows of a leader.")
	raftReady     = desc("raft_ready", "1 once this server, as the leader, has all that earlier leaders acknowledged.")
	raftTerm      = desc("raft_term", "Raft's term; a rise is an election.")
	raftLast      = desc("raft_last_index", "Index of the newest entry in this server's log.")
	raftCommit    = desc("raft_commit_index", "Index of the newest entry that a quorum holds.")
	raftApplied   = desc("raft_applied_index", "Index of the newest entry in this server's state.")
	raftContact   = desc("raft_last_contact_seconds", "Time since this server heard from the leader; 0 on the leader.")
	raftVoters    = desc("raft_voters", "Servers that vote.")
	gossipMembers = desc("gossip_members", "Servers and agents that this one sees by gossip, itself included.", "role")
)

func (o *own) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{raftLeader, raftHasLeader, raftReady, raftTerm, raftLast, raftCommit, raftApplied, raftContact, raftVoters, gossipMembers} {
		ch <- d
	}
}

func (o *own) Collect(ch chan<- prometheus.Metric) {
	r := o.Raft()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(raftLeader, truth(r.Leader))
	gauge(raftHasLeader, truth(r.HasLeader))
	gauge(raftReady, truth(r.Ready))
	gauge(raftTerm, float64(r.Term))
	gauge(raftLast, float64(r.LastIndex))
	gauge(raftCommit, float64(r.Commit))
	gauge(raftApplied, float64(r.Applied))
	gauge(raftVoters, float64(r.Voters))
	if o.Gossip != nil {
		for role, n := range o.Gossip() {
			ch <- prometheus.MustNewConstMetric(gossipMembers, prometheus.GaugeValue, float64(n), role)
		}
	}
	switch {
	case r.Leader:
		gauge(raftContact, 0)
	case !r.Contact.IsZero():
		gauge(raftContact, max(0, o.Clock().Sub(r.Contact).Seconds()))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
