package mesh

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func keyOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// The key is exchanged while the mesh runs, at another moment at each member, and
// nobody falls out of anybody's sight. One that missed it all is deaf until it is
// given the keys; somebody who has but the old key stays outside.
func TestTheKeyIsExchangedWithoutLosingAnybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 3) // with a key of zeros
		old, fresh := make([]byte, 32), keyOf(9)
		f.await(healWithin, f.within(together))
		set := func(keys ...[]byte) {
			for name, m := range f.members {
				if name == "a3" {
					continue // the step does not reach it
				}
				if err := m.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second) // the next one hears of it later
				for other := range f.members {
					if got := f.sees(other); other != "a3" && len(got) < 5 {
						t.Fatalf("when %s had %d keys, %s saw but %v", name, len(keys), other, got)
					}
				}
			}
		}
		set(old, fresh)
		set(fresh, old)
		set(fresh)
		deaf := func(name string) int {
			if name == "a3" {
				return 1
			}
			return 0
		}
		f.await(3*time.Minute, f.within(deaf))
		f.join("old", []string{f.members["s1"].Addr()}) // newFleet's key
		time.Sleep(time.Minute)
		if slices.Contains(f.sees("s1"), "old") {
			t.Error("a member with the old key is in sight")
		}
		delete(f.members, "old")
		if err := f.members["a3"].SetKeys([][]byte{fresh}); err != nil {
			t.Fatal(err)
		}
		f.await(healWithin, f.within(together))
	})
}

func TestKeysAreNotMixedWithPlainText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		plain := n.open(t, n.plug("plain").address(), Config{Name: "plain"})
		if err := plain.SetKeys([][]byte{keyOf(1)}); err == nil {
			t.Error("a member that sends plain text was given a key")
		}
		locked := n.open(t, n.plug("locked").address(), Config{Name: "locked", Key: keyOf(1)})
		if err := locked.SetKeys(nil); err == nil {
			t.Error("a member was left without a key")
		}
		if err := locked.SetKeys([][]byte{[]byte("short")}); err == nil {
			t.Error("a member was given a short key")
		}
	})
}
