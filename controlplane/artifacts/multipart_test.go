package artifacts_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
)

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// send puts data by a sealed link, with the headers that the link names, and
// returns the status. A store may refuse a link without reading the body and
// close the connection; the answer can be lost then, and send returns 0.
func send(t *testing.T, link string, data []byte, sum string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, link, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	for name := range strings.SplitSeq(u.Query().Get("X-Amz-SignedHeaders"), ";") {
		switch name {
		case "x-amz-checksum-sha256":
			raw, _ := hex.DecodeString(sum)
			req.Header.Set(name, base64.StdEncoding.EncodeToString(raw))
		case "x-amz-meta-sha256":
			req.Header.Set(name, sum)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		t.Logf("PUT: %v", err)
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Logf("PUT: %s %.300s", resp.Status, body)
	}
	return resp.StatusCode
}

func TestASealedLinkTakesOnlyTheBytesThatItWasMadeFor(t *testing.T) {
	s, _ := s3test.Shared(t)
	data := noise(1 << 20)
	sum := sumOf(data)
	bucket, key, err := artifacts.PlaceKey("", fmt.Sprintf("01SEALED%d", time.Now().UnixNano()), 41, "a.bin")
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.PresignSealedPut(t.Context(), bucket, key, sum)
	if err != nil {
		t.Fatal(err)
	}
	a := api.Artifact{Name: "a.bin", Bucket: bucket, Key: key, Size: int64(len(data)), SHA256: sum}
	wrong := bytes.Clone(data)
	wrong[1000] ^= 4
	if code := send(t, link, wrong, sum); code/100 != 4 {
		t.Errorf("other bytes of the same length: status %d", code)
	}
	if code := send(t, link, wrong, sumOf(wrong)); code != http.StatusForbidden && code != 0 {
		t.Errorf("other bytes with their own hash: status %d", code)
	}
	var missing *artifacts.MissingError
	if err := s.Verify(t.Context(), []api.Artifact{a}); !errors.As(err, &missing) {
		t.Errorf("after refused bytes: %v", err)
	}
	if code := send(t, link, data, sum); code != 200 {
		t.Fatalf("the right bytes: status %d", code)
	}
	if err := s.Verify(t.Context(), []api.Artifact{a}); err != nil {
		t.Error(err)
	}
	a.SHA256 = strings.Repeat("0", 64)
	if err := s.Verify(t.Context(), []api.Artifact{a}); err == nil {
		t.Error("another hash was not noticed")
	}
	empty, err := s.PresignSealedPut(t.Context(), bucket, key+".empty", sumOf(nil))
	if err != nil {
		t.Fatal(err)
	}
	if code := send(t, empty, nil, sumOf(nil)); code != 200 {
		t.Errorf("an empty file: status %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAFileInPartsGoesOnWhereItStopped(t *testing.T) {
	s, e := s3test.Start(t)
	const partSize = 5 << 20
	data := noise(2*partSize + 1000)
	sum := sumOf(data)
	bucket, key := api.BucketModels, "merged/01PARTS/77/model.safetensors"
	var parts []api.UploadPart
	var bodies [][]byte
	for at := 0; at < len(data); at += partSize {
		body := data[at:min(at+partSize, len(data))]
		bodies = append(bodies, body)
		parts = append(parts, api.UploadPart{Number: len(parts) + 1, Size: int64(len(body)), SHA256: sumOf(body)})
	}
	put := func(id string, i int) int {
		t.Helper()
		link, err := s.PresignPart(t.Context(), bucket, key, id, parts[i])
		if err != nil {
			t.Fatal(err)
		}
		return send(t, link, bodies[i], parts[i].SHA256)
	}
	ctx := t.Context()
	size := int64(len(data))
	lost, err := s.BeginMultipart(ctx, bucket, key, "", size, sum)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.BeginMultipart(ctx, bucket, key, "", size, sum)
	if err != nil || first.UploadID == lost.UploadID {
		t.Fatalf("a second beginning: %+v, %v", first, err)
	}
	if code := put(lost.UploadID, 0); code != http.StatusNotFound && code != 0 {
		t.Errorf("the upload whose id was lost still takes parts: %d", code)
	}
	if m, err := s.BeginMultipart(ctx, bucket, key, first.UploadID, size, sum); err != nil || m.UploadID != first.UploadID || len(m.Parts) != 0 {
		t.Fatalf("before the first part: %+v, %v", m, err)
	}
	wrong := bytes.Clone(bodies[0])
	wrong[5] ^= 1
	link, _ := s.PresignPart(ctx, bucket, key, first.UploadID, parts[0])
	if code := send(t, link, wrong, parts[0].SHA256); code/100 != 4 {
		t.Errorf("a part of other bytes: status %d", code)
	}
	for _, i := range []int{0, 2} {
		if code := put(first.UploadID, i); code != 200 {
			t.Fatalf("part %d: status %d", i+1, code)
		}
	}
	var incomplete *artifacts.IncompleteError
	if err := s.CompleteMultipart(ctx, bucket, key, first.UploadID, size, sum); !errors.As(err, &incomplete) {
		t.Errorf("completed without part 2: %v", err)
	}
	again, err := s.BeginMultipart(ctx, bucket, key, first.UploadID, size, sum)
	if err != nil || again.UploadID != first.UploadID || len(again.Parts) != 2 || again.Parts[0] != parts[0] || again.Parts[1] != parts[2] {
		t.Fatalf("going on: %+v, %v", again, err)
	}
	if code := put(first.UploadID, 1); code != 200 {
		t.Fatalf("part 2: status %d", code)
	}
	for range 2 {
		if err := s.CompleteMultipart(ctx, bucket, key, first.UploadID, size, sum); err != nil {
			t.Fatal(err)
		}
	}
	done, err := s.BeginMultipart(ctx, bucket, key, first.UploadID, size, sum)
	if err != nil || !done.Done {
		t.Errorf("a whole file is begun again: %+v, %v", done, err)
	}
	a := api.Artifact{Name: "model.safetensors", Bucket: bucket, Key: key, Size: size, SHA256: sum}
	if err := s.VerifyContent(ctx, []api.Artifact{a}); err != nil {
		t.Error(err)
	}
	for u := range raw(t, e).ListIncompleteUploads(ctx, bucket, "", true) {
		t.Errorf("left: %+v", u)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestUploadsThatNobodyIsAtAreGivenUp(t *testing.T) {
	s, e := s3test.Start(t)
	ctx := t.Context()
	keys := map[string]string{
		api.BucketArtifacts: "01JOB/7/a.bin", api.BucketCheckpoints: "01JOB/step-1/8/a.bin",
		api.BucketDatasets: "processed/01JOB/8/a.bin", api.BucketModels: "merged/01JOB/8/a.bin",
	}
	begin := func(bucket, key string) {
		if _, err := s.BeginMultipart(ctx, bucket, key, "", 10<<20, sumOf(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for bucket, key := range keys {
		begin(bucket, key)
	}
	begin(api.BucketModels, artifacts.ModelKey("llama", sumOf(nil), "model.safetensors"))
	begin(api.BucketModels, "base/llama/by-hand.safetensors")
	count := func() (n int) {
		for bucket := range keys {
			for range raw(t, e).ListIncompleteUploads(ctx, bucket, "", true) {
				n++
			}
		}
		return n
	}
	if n := count(); n != 6 {
		t.Fatalf("%d uploads were begun", n)
	}
	if n, err := s.SweepUploads(ctx, 1<<40, func(uint64) bool { return false }); n != 0 || err != nil {
		t.Errorf("young ones: %d given up, %v", n, err)
	}
	if n, err := s.SweepUploads(ctx, 0, func(f uint64) bool { return f == 7 }); n != 4 || err != nil {
		t.Errorf("%d given up, %v; want 4", n, err)
	}
	if n := count(); n != 2 {
		t.Errorf("%d left, want those of the live attempt and of whoever copies a model there by hand", n)
	}
}
