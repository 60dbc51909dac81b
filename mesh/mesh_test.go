package mesh_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = bytes.Repeat([]byte{7}, 32)

func member(t *testing.T, c mesh.Config) *mesh.Mesh {
	t.Helper()
	c.BindAddr = "127.0.0.1"
	c.RejoinInterval = 100 * time.Millisecond
	c.SyncInterval = 200 * time.Millisecond
	m, err := mesh.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 15 s: %s", what)
}

func TestMembersSeeEachOtherAndWhatEachCanDo(t *testing.T) {
	server := member(t, mesh.Config{Name: "s-1", Key: key, Meta: mesh.Meta{Role: mesh.RoleServer, Port: 7700}})
	all := []*mesh.Mesh{server}
	for i := range 2 {
		all = append(all, member(t, mesh.Config{
			Name: fmt.Sprintf("n-%d", i), Key: key, Join: []string{server.Addr()},
			Meta: mesh.Meta{Role: mesh.RoleAgent, FreeSlots: uint16(i + 1)}, Document: fmt.Appendf(nil, `{"cores":%d}`, i),
		}))
	}
	for _, m := range all {
		eventually(t, "three members with their documents", func() bool {
			seen := m.Members()
			return len(seen) == 3 &&
				seen[0].Name == "n-0" && string(seen[0].Document) == `{"cores":0}` && seen[0].Meta.Role == mesh.RoleAgent &&
				seen[1].Name == "n-1" && string(seen[1].Document) == `{"cores":1}` && seen[1].Meta.FreeSlots == 2 &&
				seen[2].Meta.Port == 7700
		})
	}
	if err := all[1].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the goodbye is heard", func() bool { return len(server.Members()) == 2 })
}

// A member that starts before its peer is there joins it later: what a healed
// partition needs too.
func TestAMemberJoinsAPeerThatComesLater(t *testing.T) {
	early := member(t, mesh.Config{Name: "server", Key: key})
	addr := early.Addr()
	if err := early.Close(); err != nil {
		t.Fatal(err)
	}
	agent := member(t, mesh.Config{Name: "agent", Key: key, Join: []string{addr}})
	time.Sleep(200 * time.Millisecond)
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	member(t, mesh.Config{Name: "server", Key: key, BindPort: port})
	eventually(t, "the agent sees the server", func() bool { return len(agent.Members()) == 2 })
}

func TestAnotherKeyIsKeptOut(t *testing.T) {
	server := member(t, mesh.Config{Name: "server", Key: key})
	stranger := member(t, mesh.Config{Name: "stranger", Key: bytes.Repeat([]byte{8}, 32), Join: []string{server.Addr()}})
	time.Sleep(time.Second)
	if len(server.Members()) != 1 || len(stranger.Members()) != 1 {
		t.Errorf("members with different keys see each other: %v %v", server.Members(), stranger.Members())
	}
}

func TestAFaultyConfigIsRefused(t *testing.T) {
	for _, tt := range []struct {
		config mesh.Config
		words  string
	}{
		{mesh.Config{}, "no name"},
		{mesh.Config{Name: "a", Key: []byte("short")}, "16, 24 or 32"},
		{mesh.Config{Name: "a", Document: make([]byte, mesh.MaxDocument+1)}, "at most"},
		{mesh.Config{Name: "a", BindAddr: "127.0.0.1", Join: []string{"192.0.2.1:7702"}}, "loopback"},
	} {
		m, err := mesh.Open(tt.config)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%+v: %v", tt.config.Name, err)
		}
	}
}

func TestMetaKeepsWhatItCarries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := mesh.Meta{Version: 1, Role: mesh.Role(rapid.Byte().Draw(t, "role")), Port: rapid.Uint16().Draw(t, "port"), FreeSlots: rapid.Uint16().Draw(t, "slots")}
		copy(m.NodeHash[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "node"))
		copy(m.Digest[:], rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "digest"))
		got, err := mesh.DecodeMeta(m.Encode())
		if err != nil || got != m {
			t.Fatalf("%+v became %+v (%v)", m, got, err)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(mesh.Meta{Role: mesh.RoleAgent}.Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := mesh.DecodeMeta(data)
		if err == nil && len(m.Encode()) != 32 {
			t.Error("a meta is not 32 bytes long")
		}
	})
}
