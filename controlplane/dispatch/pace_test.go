package dispatch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// However many nodes there are, together they send 500 heartbeats a second at
// most, and a lease outlasts three that are missed. A new leader waits longer
// than the longest of them.
func TestManyNodesSendTheirHeartbeatsLessOften(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.beating("n0", 1)
		first := r.beat("n0")
		if first.HeartbeatInterval != 5*time.Second || first.LeaseTTL != 20*time.Second {
			t.Errorf("one node: %v, %v", first.HeartbeatInterval, first.LeaseTTL)
		}
		const nodes = 6000
		for i := 1; i < nodes; i++ {
			r.register(fmt.Sprintf("n%d", i), 1)
		}
		r.elect() // it knows them all
		many := r.beat("n0")
		if many.HeartbeatInterval != 12*time.Second || many.LeaseTTL != 48*time.Second {
			t.Errorf("%d nodes: %v, %v", nodes, many.HeartbeatInterval, many.LeaseTTL)
		}
		status := func(id string) api.NodeStatus {
			n := api.Node{ID: id}
			r.d.FillNode(&n)
			return n.Status
		}
		time.Sleep(47 * time.Second)
		if s := status("n0"); s != api.NodeAlive {
			t.Errorf("a second before its lease ends the node is %s", s)
		}
		time.Sleep(2 * time.Second)
		if s := status("n0"); s == api.NodeAlive {
			t.Error("after the end of its lease the node is alive")
		}
		r.elect()
		time.Sleep(90 * time.Second)
		if s := status("n1"); s == api.NodeDisconnected {
			t.Error("a new leader did not wait for two leases")
		}
		time.Sleep(10 * time.Second)
		if s := status("n1"); s != api.NodeDisconnected {
			t.Errorf("a node that never spoke is %s", s)
		}
	})
}
