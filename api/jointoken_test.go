package api_test

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

func pinned() api.JoinToken {
	return api.JoinToken{CA: api.CAPin([]byte("a public key")), Role: api.RoleNode, Bearer: "tm_abcdefghijkl_secretsecretsecret"}
}

func TestATokenCarriesItsTrust(t *testing.T) {
	want := pinned()
	got, err := api.ParseToken(" " + want.String() + "\n")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if text := want.String(); !strings.HasPrefix(text, "M1") || !strings.HasSuffix(text, "::node:abcdefghijkl_secretsecretsecret") {
		t.Errorf("the text is %s", text)
	}
	plain, err := api.ParseToken("tm_abc_def")
	if err != nil || plain.CA != nil || plain.Role != "" || plain.Bearer != "tm_abc_def" || plain.String() != "tm_abc_def" {
		t.Errorf("%+v %v", plain, err)
	}
}

func TestATokenThatIsNotWholeIsRefusedWithoutBeingTold(t *testing.T) {
	whole := pinned().String()
	for _, text := range []string{"M1", whole[:40], whole[:68], strings.Replace(whole, "::", ":", 1), strings.Replace(whole, "node", "", 1), whole[:2] + "zz" + whole[4:], whole[:2] + whole[4:], strings.TrimSuffix(whole, "abcdefghijkl_secretsecretsecret")} {
		_, err := api.ParseToken(text)
		if err == nil {
			t.Errorf("%s is a token", text)
		} else if strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(pinned().String())
	f.Add("tm_abc_def")
	f.Add("M1::node:x")
	f.Add("M1" + strings.Repeat("AB", 32) + "::server:tm_tm_x")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := api.ParseToken(text)
		if err != nil {
			if _, secret, ok := strings.Cut(text, "::"); ok && len(secret) > 24 && strings.Contains(err.Error(), secret) {
				t.Fatalf("the error tells the token: %v", err)
			}
			return
		}
		if len(token.CA) != 0 && (len(token.CA) != sha256.Size || token.Role == "" || !strings.HasPrefix(token.Bearer, "tm_")) {
			t.Fatalf("%q is read as %+v", text, token)
		}
		again, err := api.ParseToken(token.String())
		if err != nil || !bytes.Equal(again.CA, token.CA) || again.Role != token.Role || again.Bearer != token.Bearer {
			t.Fatalf("%q is read as %+v, and that as %+v, %v", text, token, again, err)
		}
	})
}
