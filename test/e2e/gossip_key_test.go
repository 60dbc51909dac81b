package e2e

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// inSight returns how many members each server sees by gossip.
func (c *cluster) inSight() (map[string]int, error) {
	out := map[string]int{}
	for _, name := range []string{"s1", "s2", "s3"} {
		text, err := c.cliAt("https://"+c.http[name], "cluster", "gossip", "--json")
		if err != nil {
			return nil, err
		}
		var g api.Gossip
		if err := json.Unmarshal([]byte(text), &g); err != nil {
			return nil, err
		}
		out[name] = len(g.Members)
	}
	return out, nil
}

func (c *cluster) awaitInSight(n int) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		seen, err := c.inSight()
		if err == nil && seen["s1"] == n && seen["s2"] == n && seen["s3"] == n {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the servers see %v (%v), want %d each", seen, err, n)
		}
	}
}

// The gossip's key is exchanged on a mesh that runs: every server sees every
// member all the time, an agent and a server that were away come back with the
// new key, and the mesh runs jobs.
func TestTheGossipKeyIsExchangedOnALiveMesh(t *testing.T) {
	c := newCluster(t)
	line, err := c.cli("token", "create", "--role", "node", "--uses", "3")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ws1", "ws2"} {
		c.join(line, name)
	}
	away := c.join(line, "ws3")
	c.awaitNodes(3)
	c.awaitInSight(6)
	away.stop(os.Interrupt)
	c.awaitInSight(5)
	before, err := c.client().GossipKey(t.Context())
	if err != nil || !before.AtRest() {
		t.Fatalf("%+v %v", before, err)
	}

	v := c.verb("cluster", "rotate-gossip-key", "--wait")
	looks := 0
	for v.running() {
		seen, err := c.inSight()
		if err != nil {
			t.Fatal(err)
		}
		if seen["s1"] != 5 || seen["s2"] != 5 || seen["s3"] != 5 {
			t.Errorf("while the key is exchanged the servers see %v, want 5 each:\n%s", seen, v.log)
		}
		looks++
		time.Sleep(200 * time.Millisecond)
	}
	if code := v.ends(time.Second); code != 0 || !strings.Contains(v.log.String(), "All learn to take") || !strings.Contains(v.log.String(), "is taken still") || !strings.Contains(v.log.String(), "and no other") {
		t.Fatalf("exit code %d\n%s", code, v.log)
	}
	after, err := c.client().GossipKey(t.Context())
	if err != nil || !after.AtRest() || after.Primary == before.Primary {
		t.Fatalf("%+v became %+v (%v)", before, after, err)
	}
	t.Logf("%d looks at all lists while the key was exchanged", looks)

	// Who had fallen silent for want of a key would be dead by now.
	time.Sleep(15 * time.Second)
	c.awaitInSight(5)
	c.start(away, powerMark+away.dir)
	c.awaitInSight(6)
	c.servers["s2"].stop(syscall.SIGKILL)
	c.start(c.servers["s2"])
	c.awaitPeers("three voters", func(list []api.Peer) bool { return voters(list) == 3 })
	c.awaitInSight(6)
	for _, name := range []string{"s1", "s2", "s3"} {
		if !c.keepsKey(name, after.Primary) {
			t.Errorf("%s does not keep the new key", name)
		}
	}
	c.awaitNodes(3)
}

// keepsKey says whether a server keeps the key of a digest for its next start.
func (c *cluster) keepsKey(name, digest string) bool {
	text, err := os.ReadFile(filepath.Join(c.dir, name, "gossip.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	return err == nil && api.GossipKeysDigest([][]byte{key}) == digest
}
