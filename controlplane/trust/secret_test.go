package trust_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// fixed is the secret whose 32 bytes are 0 to 31.
const fixed = "tmc_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"

// What it gives: computed once by this program; the gossip key and the peer
// secret also by another implementation of HKDF-SHA-256 (RFC 5869).
const (
	goldenGossip = "3f402ccfcdd11cf9d45a9b4f8028d7f72765e7557092ffc39e770805811eb8bd"
	goldenPeer   = "40b2387ebdfd14b3b5f588341d511db5afa79c753bd256cf549dfc87f4da2d2e"
	goldenPin    = "cb40575221b4dde9b370754a9baa84cbfdeb7adc6fe131e0e394560a4940bc4e"
	goldenID     = "o7xu7cust5yb"
	goldenWord   = "cstudmdysbddyjqu5amrverz3d33enl7gmthkf7rpeufhanoxshq"
)

// What is derived from a secret never changes: servers of two versions found
// one cluster, and after the loss of all servers the agents know the new ones.
func TestWhatASecretGivesIsTheSameForEver(t *testing.T) {
	s, err := trust.ParseSecret("  " + fixed + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != fixed {
		t.Errorf("the text is now %s", s)
	}
	ring, err := s.Keyring()
	if err != nil {
		t.Fatal(err)
	}
	public, err := trust.PublicKey(ring.CACert)
	if err != nil {
		t.Fatal(err)
	}
	id, word := s.Words("admin")
	otherID, otherWord := s.Words("node")
	pin := sha256.Sum256(public)
	for what, c := range map[string]struct{ got, want string }{
		"gossip key":         {hex.EncodeToString(ring.Gossip), goldenGossip},
		"peer secret":        {ring.Peer, goldenPeer},
		"pin of the CA":      {hex.EncodeToString(pin[:]), goldenPin},
		"admin token id":     {id, goldenID},
		"admin token secret": {word, goldenWord},
	} {
		if c.got != c.want {
			t.Errorf("%s is %s, was %s", what, c.got, c.want)
		}
	}
	if id == otherID || word == otherWord {
		t.Error("two purposes have one token")
	}
	if len(id) != 12 || len(word) != 52 {
		t.Errorf("a token of %d and %d characters", len(id), len(word))
	}
}

func TestSecretsDiffer(t *testing.T) {
	a, b := trust.NewSecret(), trust.NewSecret()
	if a.String() == b.String() {
		t.Fatal("two secrets are the same")
	}
	one, err := a.Keyring()
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Keyring()
	if err != nil {
		t.Fatal(err)
	}
	if one.Peer == two.Peer || string(one.Gossip) == string(two.Gossip) || string(one.CAKey) == string(two.CAKey) {
		t.Error("two clusters share a key")
	}
	if !one.IsPeer(one.Peer) || one.IsPeer(two.Peer) || one.IsPeer("") || (trust.Keyring{}).IsPeer("") {
		t.Error("IsPeer")
	}
}

func TestADamagedSecretIsRefusedWithoutBeingTold(t *testing.T) {
	for _, text := range []string{"", "tmc_", "tm_" + fixed[4:], fixed[:len(fixed)-1], fixed + "a", strings.ToUpper(fixed), fixed[:20] + "1" + fixed[21:], "tmc_" + strings.Repeat("é", 26), fixed[4:]} {
		_, err := trust.ParseSecret(text)
		if err == nil {
			t.Errorf("%q is a secret", text)
			continue
		}
		if len(text) > 20 && strings.Contains(err.Error(), text[5:15]) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(fixed)
	f.Add("tmc_")
	f.Add("tmc_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp=")
	f.Add(" " + fixed + "\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := trust.ParseSecret(text)
		if err != nil {
			if len(text) > 24 && strings.HasPrefix(text, "tmc_") && strings.Contains(err.Error(), text[4:]) {
				t.Fatalf("the error tells the secret: %v", err)
			}
			return
		}
		again, err := trust.ParseSecret(s.String())
		if err != nil || again.String() != s.String() || len(s.String()) != len(fixed) {
			t.Fatalf("%q is read as %q, that as %q, %v", text, s, again, err)
		}
		if _, word := s.Words("x"); len(word) != 52 {
			t.Fatalf("%q derives %q", text, word)
		}
	})
}
