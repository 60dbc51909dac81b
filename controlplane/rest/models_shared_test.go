package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/api/transfer"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// bringing sends what the mesh lacks of a model, makes it known, and returns it with
// the names of what was sent.
func bringing(t *testing.T, c *client.Client, name string, files map[string]string) (api.Model, []string) {
	t.Helper()
	announced := list(files)
	places, err := c.RequestModelUploads(t.Context(), name, announced)
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	for _, p := range places {
		if err := c.Put(t.Context(), p, strings.NewReader(files[p.Name])); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, p.Name)
	}
	made, err := c.CreateModel(t.Context(), name, api.ModelManifest{Architecture: "LlamaForCausalLM", Files: announced})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(sent)
	return made, sent
}

// copies counts the objects of base models that have these bytes, and the uploads of
// them that came to no end: other tests use the same store.
func (m *mesh) copies(t *testing.T, of []byte) (n int) {
	t.Helper()
	raw, want := m.raw(t), sum(of)
	for o := range raw.ListObjects(t.Context(), api.BucketModels, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.Size != int64(len(of)) {
			continue
		}
		info, err := raw.StatObject(t.Context(), api.BucketModels, o.Key, minio.StatObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if info.UserMetadata["Sha256"] == want {
			n++
		}
	}
	for u := range raw.ListIncompleteUploads(t.Context(), api.BucketModels, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		if strings.Contains(u.Key, want) {
			t.Errorf("an upload is left: %s", u.Key)
		}
	}
	return n
}

// keyOf is where a model has a file.
func keyOf(m api.Model, name string) string {
	for _, f := range m.Files {
		if f.Name == name {
			return f.Key
		}
	}
	return ""
}

// namesake is a model whose files are those of no other test.
func namesake(t *testing.T) map[string]string {
	files := weights(t.Name())
	files["config.json"] = `{"architectures":["LlamaForCausalLM"],"name":"` + t.Name() + `"}`
	return files
}

func TestTheSameBytesAreStoredOnce(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	files := namesake(t)
	first, sent := bringing(t, user, "first", files)
	if !slices.Contains(sent, "model.safetensors") || !slices.Contains(sent, "config.json") || slices.Contains(sent, "tokenizer.json") { // whose bytes the mesh's own model has
		t.Errorf("%v were sent", sent)
	}
	second, sent := bringing(t, user, "second", files)
	if len(sent) > 0 || second.SHA256 != first.SHA256 || second.Name != "second" {
		t.Errorf("%v were sent again: %+v", sent, second)
	}
	files["config.json"] += " "
	third, sent := bringing(t, user, "third", files)
	if !slices.Equal(sent, []string{"config.json"}) || keyOf(third, "model.safetensors") != keyOf(first, "model.safetensors") {
		t.Errorf("%v were sent; %+v", sent, third)
	}
	if n := m.copies(t, []byte(files["model.safetensors"])); n != 1 {
		t.Errorf("the weights are stored %d times", n)
	}
	// A name that gets other files takes them from no other.
	if _, err := m.client(api.RoleAdmin).CreateModel(t.Context(), "first", api.ModelManifest{Architecture: "x", Files: list(files), Replace: true}); err != nil {
		t.Fatal(err)
	}
	if err := m.store.VerifyContent(t.Context(), second.Files); err != nil {
		t.Error(err)
	}
}

// What an older program stored in the folder of a model stays there, and other
// models share it.
func TestModelsShareWhatAnOlderProgramStored(t *testing.T) {
	m := newMesh(t)
	files := namesake(t)
	old := api.Model{Name: "old", Architecture: "LlamaForCausalLM", SHA256: api.ModelSHA256(list(files))}
	for _, f := range list(files) {
		key := artifacts.ModelKey("old", old.SHA256, f.Name)
		if _, err := m.store.PutBytes(t.Context(), api.BucketModels, key, []byte(files[f.Name])); err != nil {
			t.Fatal(err)
		}
		old.Files = append(old.Files, api.Artifact{Name: f.Name, Bucket: api.BucketModels, Key: key, Size: f.Size, SHA256: f.SHA256})
	}
	if _, err := m.node.Apply(t.Context(), state.CreateModel{Model: old}); err != nil {
		t.Fatal(err)
	}
	user := m.client(api.RoleUser)
	made, sent := bringing(t, user, "new", files)
	if len(sent) > 0 || m.copies(t, []byte(files["model.safetensors"])) != 1 || keyOf(made, "model.safetensors") != keyOf(old, "model.safetensors") {
		t.Errorf("%v were sent; %+v", sent, made)
	}
	if again, sent := bringing(t, user, "old", files); len(sent) > 0 || keyOf(again, "model.safetensors") != keyOf(old, "model.safetensors") {
		t.Errorf("%v were sent; %+v", sent, again)
	}
}

// An import brings back what the store has lost, under the same name too.
func TestAnImportMendsAModelThatLostItsBytes(t *testing.T) {
	m := newMesh(t)
	user := m.client(api.RoleUser)
	files := namesake(t)
	made, _ := bringing(t, user, "mine", files)
	if err := m.store.Remove(t.Context(), api.BucketModels, keyOf(made, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	_, err := user.CreateModel(t.Context(), "mine", api.ModelManifest{Architecture: "LlamaForCausalLM", Files: list(files)})
	if p := refusal(t, err); p.Type != api.ProblemNotStored {
		t.Errorf("without its weights: %v", err)
	}
	again, sent := bringing(t, user, "mine", files)
	if !slices.Equal(sent, []string{"model.safetensors"}) || again.Index != made.Index {
		t.Errorf("%v were sent; %+v", sent, again)
	}
	if err := m.store.VerifyContent(t.Context(), made.Files); err != nil {
		t.Error(err)
	}
}

// inManyParts is a model whose weights go up in parts.
func inManyParts(name string) (content map[string][]byte, files []api.ModelFile) {
	weights := bytes.Repeat([]byte(name), int(transfer.PartsFrom+transfer.PartSize(0))/len(name))
	content = map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("[]"), "model.safetensors": weights}
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json"} {
		files = append(files, api.ModelFile{Name: name, Size: int64(len(content[name])), SHA256: sum(content[name])})
	}
	return content, files
}

// bringInParts is an import; moved hears of the bytes of its weights.
func bringInParts(ctx context.Context, c *client.Client, name string, content map[string][]byte, files []api.ModelFile, moved func(int64)) error {
	places, err := c.RequestModelUploads(ctx, name, files)
	for _, p := range places {
		hear := func(int64) {}
		if p.Name == "model.safetensors" {
			hear = moved
		}
		if err == nil {
			err = c.SendModelFile(ctx, name, files, p, bytes.NewReader(content[p.Name]), hear)
		}
	}
	if err == nil {
		_, err = c.CreateModel(ctx, name, api.ModelManifest{Architecture: "LlamaForCausalLM", Files: files})
	}
	return err
}

// One imports while another is in the middle of the same: both come to their end,
// each under its name or both under one, and the weights are there once.
func TestTwoWhoImportTheSameAtOnce(t *testing.T) {
	for _, other := range []string{"mine", "yours"} {
		content, files := inManyParts(t.Name() + other)
		m := newMesh(t)
		first, second := m.client(api.RoleUser), m.client(api.RoleUser)
		var meanwhile sync.Once
		var inside error
		err := bringInParts(t.Context(), first, "mine", content, files, func(int64) {
			meanwhile.Do(func() { inside = bringInParts(t.Context(), second, other, content, files, func(int64) {}) })
		})
		if err != nil || inside != nil {
			t.Fatalf("%v; the other: %v", err, inside)
		}
		mine, err := first.Model(t.Context(), "mine")
		if err != nil {
			t.Fatal(err)
		}
		yours, err := second.Model(t.Context(), other)
		if err != nil || keyOf(mine, "model.safetensors") != keyOf(yours, "model.safetensors") {
			t.Errorf("%+v and %+v, %v", mine, yours, err)
		}
		if err := m.store.VerifyContent(t.Context(), mine.Files); err != nil {
			t.Error(err)
		}
		if n := m.copies(t, content["model.safetensors"]); n != 1 {
			t.Errorf("the weights are stored %d times", n)
		}
	}
}

// Many begin at the same moment, with nobody to wait for.
func TestManyWhoBeginTheSameImport(t *testing.T) {
	m := newMesh(t)
	content, files := inManyParts(t.Name())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := bringInParts(t.Context(), m.client(api.RoleUser), "mine", content, files, func(int64) {}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := m.copies(t, content["model.safetensors"]); n != 1 {
		t.Errorf("the weights are stored %d times", n)
	}
}

// putCounter counts the parts that go to the object store.
type putCounter struct {
	http.RoundTripper
	puts atomic.Int64
}

func (p *putCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") {
		p.puts.Add(1)
	}
	return p.RoundTripper.RoundTrip(r)
}

// multipart is one step of the upload of a model's file in parts.
func (m *mesh) multipart(t *testing.T, model string, step api.MultipartStep, r api.ModelMultipart) (out api.Multipart) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	m.do(t, http.MethodPost, "/v1/models/"+model+"/"+string(step), body, &out)
	return out
}

// An import that is killed half-way leaves no model, and the next one, by whomever
// and under whatever name, sends only what is missing.
func TestAnImportGoesOnWhereAnotherWasKilled(t *testing.T) {
	m := newMesh(t)
	content, files := inManyParts(t.Name())
	parts := (int64(len(content["model.safetensors"])) + transfer.PartSize(0) - 1) / transfer.PartSize(0)
	killed, kill := context.WithCancel(t.Context())
	defer kill()
	var sent atomic.Int64
	err := bringInParts(killed, m.client(api.RoleUser), "mine", content, files, func(n int64) {
		// Three are on their way together: with the bytes of four two are there.
		if sent.Add(n) >= 4*transfer.PartSize(0) {
			kill()
		}
	})
	if err == nil {
		t.Fatal("the import came to its end")
	}
	if list, err := m.client(api.RoleUser).Models(t.Context()); err != nil || len(list) != 1 || list[0].Name != modelName {
		t.Errorf("there is half a model: %+v, %v", list, err)
	}
	count := &putCounter{RoundTripper: &http.Transport{DisableKeepAlives: true}}
	if err := bringInParts(t.Context(), m.clientWith(api.RoleUser, count), "yours", content, files, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if n := count.puts.Load(); n >= parts {
		t.Errorf("%d parts were sent of %d: it began anew", n, parts)
	}
	made, err := m.client(api.RoleUser).Model(t.Context(), "yours")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.store.VerifyContent(t.Context(), made.Files); err != nil {
		t.Error(err)
	}
}

// Parts of other bytes than announced become no model, and are in nobody's way.
func TestPartsOfOtherBytesBecomeNoModel(t *testing.T) {
	m := newMesh(t)
	content, files := inManyParts(t.Name())
	user := m.client(api.RoleUser)
	other := bytes.Clone(content["model.safetensors"])
	other[0]++
	announced := api.ModelMultipart{Files: files, File: "model.safetensors"}
	up := m.multipart(t, "mine", api.MultipartBegin, announced)
	announced.UploadID = up.UploadID
	cut := transfer.CutParts(int64(len(other)))
	if _, err := io.Copy(cut, bytes.NewReader(other)); err != nil {
		t.Fatal(err)
	}
	announced.Parts = cut.List()
	for _, p := range m.multipart(t, "mine", api.MultipartLinks, announced).Parts {
		at := int64(p.Number-1) * transfer.PartSize(0)
		if err := user.Put(t.Context(), api.Artifact{Size: p.Size, SHA256: p.SHA256, URL: p.URL}, bytes.NewReader(other[at:at+p.Size])); err != nil {
			t.Fatal(err)
		}
	}
	m.multipart(t, "mine", api.MultipartComplete, announced)
	err := bringInParts(t.Context(), user, "mine", content, files, func(int64) {})
	if p := refusal(t, err); p.Type != api.ProblemNotStored {
		t.Errorf("other bytes: %v", err)
	}
	if err := bringInParts(t.Context(), user, "mine", content, files, func(int64) {}); err != nil {
		t.Errorf("sent again: %v", err)
	}
	// Now that a model has them, nobody can write there again.
	if up := m.multipart(t, "else", api.MultipartBegin, api.ModelMultipart{Files: files, File: "model.safetensors"}); !up.Done {
		t.Errorf("an upload of known bytes began: %+v", up)
	}
	lied := slices.Clone(files)
	lied[1].Size++
	if _, err := user.RequestModelUploads(t.Context(), "else", lied); refusal(t, err).Errors[0].Field != "files[1].size" {
		t.Errorf("known bytes of another size: %v", err)
	}
	m.sendUnsealed(t, "else", files, 1, "not these")
	made, err := user.Model(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.store.VerifyContent(t.Context(), made.Files); err != nil {
		t.Error(err)
	}
}

// Nobody gives up what another is sending: who begins the same joins in.
func TestTheSameFileHasOneUpload(t *testing.T) {
	m := newMesh(t)
	content, files := inManyParts(t.Name())
	begin := func(model, id string) api.Multipart {
		return m.multipart(t, model, api.MultipartBegin, api.ModelMultipart{Files: files, File: "model.safetensors", UploadID: id})
	}
	first := begin("mine", "")
	part := api.UploadPart{Number: 1, Size: transfer.PartSize(0), SHA256: sum(content["model.safetensors"][:transfer.PartSize(0)])}
	linked := m.multipart(t, "mine", api.MultipartLinks, api.ModelMultipart{Files: files, File: "model.safetensors", UploadID: first.UploadID, Parts: []api.UploadPart{part}})
	to := api.Artifact{Size: part.Size, SHA256: part.SHA256, URL: linked.Parts[0].URL}
	if err := m.client(api.RoleUser).Put(t.Context(), to, bytes.NewReader(content["model.safetensors"][:part.Size])); err != nil {
		t.Fatal(err)
	}
	// Nor does who says too early that all is there.
	if _, err := m.client(api.RoleUser).CreateModel(t.Context(), "early", api.ModelManifest{Architecture: "x", Files: files}); refusal(t, err).Type != api.ProblemNotStored {
		t.Errorf("a model without its weights: %v", err)
	}
	for _, id := range []string{"", first.UploadID, "one-that-is-gone"} {
		got := begin("yours", id)
		if first.UploadID == "" || got.UploadID != first.UploadID || !slices.Equal(got.Parts, []api.UploadPart{part}) {
			t.Errorf("who begins with %q gets %+v, want the upload %q with a part", id, got, first.UploadID)
		}
	}
}
