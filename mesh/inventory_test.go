package mesh

import (
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/hashicorp/memberlist"
)

func digestOf(doc string) (d [12]byte) {
	sum := sha256.Sum256([]byte(doc))
	copy(d[:], sum[:])
	return d
}

// A document that still goes round must not outlive its owner: members come and
// go for years.
func TestADocumentIsKeptOnlyOfMembersInSight(t *testing.T) {
	i := newInventory("own", nil, []byte("mine"), make(chan Event, 8))
	state, err := json.Marshal(map[string][]byte{"a": []byte("of a"), "own": []byte("forged"), "stranger": []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	a := &memberlist.Node{Name: "a"}
	i.NotifyJoin(a)
	i.MergeRemoteState(state, false)
	if got := i.document("a", digestOf("of a")); string(got) != "of a" {
		t.Errorf("document of a: %q", got)
	}
	i.NotifyLeave(a)
	i.MergeRemoteState(state, false)
	var kept map[string][]byte
	if err := json.Unmarshal(i.LocalState(false), &kept); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || string(kept["own"]) != "mine" {
		t.Errorf("kept %q", kept)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"a":"eHk=","":"eA==","own":"eA=="}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i := newInventory("own", nil, []byte("mine"), make(chan Event, 8))
		i.NotifyJoin(&memberlist.Node{Name: "a"})
		i.MergeRemoteState(data, false)
		for name, doc := range i.documents {
			if name != "own" && name != "a" || len(doc) > MaxDocument || name == "own" && string(doc) != "mine" {
				t.Fatalf("document of %q is %q", name, doc)
			}
		}
	})
}
