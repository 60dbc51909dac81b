package controlplane

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
	"github.com/tunemesh/tunemesh/controlplane/metrics"
)

// openMetrics registers what the rooms know. The dispatcher, which it observes,
// is opened after it.
func (s *Server) openMetrics() (err error) {
	s.registry = prometheus.NewRegistry()
	c := metrics.Config{
		Store: s.raft.Store(), Raft: s.raftFigures, Gossip: s.gossipSeen,
		FillNode: func(n *api.Node) { s.dispatch.FillNode(n) },
		Objects: func(ctx context.Context, bucket string) (o metrics.Objects, err error) {
			o.Count, o.Bytes, err = s.objects.Count(ctx, bucket)
			return o, err
		},
	}
	if log, ok := s.events.(*redis.Log); ok {
		c.RedisClients = log.ConnectedClients
	}
	if s.metrics, err = metrics.New(s.registry, c); err != nil {
		return err
	}
	s.onClose(s.metrics.Close)
	return nil
}

func (s *Server) raftFigures() metrics.Raft {
	f := s.raft.Stats()
	return metrics.Raft{
		Leader: s.raft.IsLeader(), Ready: f.Ready, HasLeader: f.LeaderID != "", Term: f.Term,
		LastIndex: f.LastIndex, Commit: f.CommitIndex, Applied: f.AppliedIndex, Voters: f.Voters,
		Contact: s.raft.LastContact(),
	}
}
