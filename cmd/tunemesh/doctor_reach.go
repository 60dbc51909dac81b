package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// Bounds of the checks of the mesh.
const (
	skewSmall, skewBig = 2 * time.Second, 30 * time.Second
	reachTime          = 10 * time.Second
	storeTime          = 30 * time.Second
	probeMost          = 1 << 20 // bytes of a probe
)

// reacher looks at one server, its clock and its object store.
type reacher struct {
	now func() time.Time // nil takes the system's
}

func (r reacher) clock() time.Time {
	if r.now == nil {
		return time.Now()
	}
	return r.now()
}

// check asks one server whether it is ready, compares clocks, and tries the way
// to the object store.
func (r reacher) check(ctx context.Context, server, token string) []finding {
	reach := finding{Check: "server", Status: statusFailed, Detail: server}
	t, err := api.ParseToken(token)
	if err != nil {
		reach.Detail, reach.Hint = server+": "+err.Error(), "copy the whole line of `tunemesh token create`"
		return []finding{reach}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if len(t.CA) > 0 {
		transport.TLSClientConfig = client.PinnedTLS(t.CA)
	}
	defer transport.CloseIdleConnections()
	reach, clock := r.ready(ctx, &http.Client{Transport: transport}, server)
	reach.passing = true
	out := []finding{reach}
	if clock.Check != "" {
		out = append(out, clock)
	}
	if reach.Status == statusFailed {
		return out
	}
	c := client.New(client.Config{Servers: []string{server}, Token: token, Retries: -1, UserAgent: "tunemesh-doctor/" + version})
	defer c.Close()
	// The store has a certificate of its own, if any.
	plain := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer plain.CloseIdleConnections()
	store := checkStore(ctx, c.StoreProbe, &http.Client{Transport: plain}, token != "")
	store.passing = reach.Status != statusOK // a server says that it is ready when its store answers
	return append(out, store)
}

// ready compares clocks by the answer's Date, which has whole seconds.
func (r reacher) ready(ctx context.Context, do *http.Client, server string) (reach, clock finding) {
	reach = finding{Check: "server", Status: statusFailed, Detail: server, Hint: "give --server as https://HOST:PORT"}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(server, "/")+"/readyz", nil)
	if err != nil {
		reach.Detail += ": " + err.Error()
		return reach, clock
	}
	sent := time.Now()
	resp, err := do.Do(req)
	if err != nil {
		reach.Detail, reach.Hint = err.Error(), "check address and firewall: an agent dials out to this port; a certificate that is not trusted needs the whole token, M1..."
		return reach, clock
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	trip := time.Since(sent)
	reach.Status, reach.Hint, reach.Detail = statusOK, "", fmt.Sprintf("%s answers after %s", server, trip.Round(time.Millisecond))
	if resp.StatusCode != http.StatusOK {
		reach.Status, reach.Hint = statusWarning, fmt.Sprintf("it is not ready (status %d): see the log of the server, or wait until it has a leader and its object store answers", resp.StatusCode)
	}
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return reach, clock
	}
	return reach, checkClock(r.clock().Add(-trip/2), theirs.Add(500*time.Millisecond), server)
}

func checkClock(ours, theirs time.Time, server string) finding {
	skew := ours.Sub(theirs)
	word := "ahead of"
	if skew < 0 {
		word = "behind"
	}
	f := finding{Check: "clock", Status: statusOK, Detail: fmt.Sprintf("in step with %s, within a second", server)}
	if skew.Abs() >= time.Second {
		f.Detail = fmt.Sprintf("about %s %s %s", skew.Abs().Round(time.Second), word, server)
	}
	switch {
	case skew.Abs() > skewBig:
		f.Status, f.Hint = statusFailed, "set the clock, best by NTP (timedatectl set-ntp true): links into the object store are signed with times, and certificates and tokens end"
	case skew.Abs() > skewSmall:
		f.Status, f.Hint = statusWarning, "set the clock by NTP (timedatectl set-ntp true)"
	}
	return f
}

// checkStore writes an object by a link that a server signed, reads it back and
// deletes it: the way that inputs and outputs of stages go.
func checkStore(ctx context.Context, ask func(context.Context) (api.StoreProbe, error), do *http.Client, known bool) finding {
	f := finding{Check: "store", Status: statusWarning, Detail: "not tried: there is no token", Hint: "give --token or --token-file, as at the join"}
	if !known {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	p, err := ask(ctx)
	if err != nil {
		f.Detail = "not tried: " + err.Error()
		var refused *api.Problem
		switch {
		case !errors.As(err, &refused):
			f.Status, f.Hint = statusFailed, "the server did not hand out a link: see its log"
		case refused.Status == http.StatusUnauthorized, refused.Status == http.StatusForbidden:
			f.Status, f.Hint = statusFailed, "the token is not accepted: `tunemesh token create --role node` makes one"
		case refused.Status == http.StatusNotFound, refused.Status == http.StatusNotImplemented:
			f.Hint = "the server is of an older version, which has no probe"
		default:
			f.Status, f.Hint = statusFailed, "the server cannot reach its own object store: see its log"
		}
		return f
	}
	host := p.PutURL
	if u, err := url.Parse(p.PutURL); err == nil {
		host = u.Scheme + "://" + u.Host
	}
	started := time.Now()
	size, err := roundTrip(ctx, do, p)
	if err != nil {
		f.Status, f.Detail = statusFailed, host+": "+err.Error()
		f.Hint = "this machine must reach the object store at " + host + ": open the port; if that address is not meant for nodes, start the servers with --s3-public-endpoint"
		return f
	}
	return finding{Check: "store", Status: statusOK, Detail: fmt.Sprintf("%s: %d KiB written, read back and deleted in %s", host, size>>10, time.Since(started).Round(time.Millisecond))}
}

// roundTrip returns how many bytes went there and back.
func roundTrip(ctx context.Context, do *http.Client, p api.StoreProbe) (int, error) {
	data := make([]byte, max(1, min(probeMost, p.MaxBytes)))
	_, _ = rand.Read(data) // never fails, by its documentation
	if _, err := viaLink(ctx, do, http.MethodPut, p.PutURL, data); err != nil {
		return 0, err
	}
	got, err := viaLink(ctx, do, http.MethodGet, p.GetURL, nil)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("what was read back is not what was written: %d bytes, want %d", len(got), len(data))
	}
	_, deleted := viaLink(context.WithoutCancel(ctx), do, http.MethodDelete, p.DeleteURL, nil)
	return len(data), errors.Join(err, deleted)
}

// viaLink follows a presigned link. Its errors do not contain the signature.
func viaLink(ctx context.Context, do *http.Client, method, link string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, link, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: the link cannot be read", method)
	}
	resp, err := do.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, probeMost+1))
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: status %d: %.200s", method, resp.StatusCode, strings.Join(strings.Fields(string(data)), " "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return data, nil
}
