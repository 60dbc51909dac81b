package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// joining makes this machine a node of a mesh, or finds that it is one.
type joining struct {
	dir, name string
	servers   []string
	token     string // the join token, empty where none was given
	preflight bool   // look whether this machine is fit before it joins
	log       *slog.Logger

	id     nodeagent.Identity
	member nodeagent.Membership
}

// join returns a client that speaks as this node. It tries until ctx ends while
// no server answers, and fails when one refuses.
func (j *joining) join(ctx context.Context) (*client.Client, error) {
	var err error
	if j.id, err = nodeagent.LoadIdentity(j.dir); err != nil {
		return nil, err
	}
	if j.member, err = nodeagent.LoadMembership(j.dir); err != nil {
		return nil, err
	}
	if len(j.servers) == 0 {
		j.servers = j.member.Servers
	}
	switch {
	case len(j.servers) == 0:
		return nil, exitError{2, errors.New("an agent needs --server, the base URL of a control-plane server: `tunemesh token create` prints the whole line")}
	case j.token == "" && j.member.Credential == "":
		return nil, exitError{2, errors.New("an agent needs a token of role node for its first start, from --token, --token-file or TUNEMESH_TOKEN: `tunemesh token create` makes one")}
	}
	if token, err := api.ParseToken(j.token); err != nil {
		return nil, exitError{2, err}
	} else if token.Role != "" && token.Role != api.RoleNode {
		return nil, exitError{2, fmt.Errorf("this is a token of role %s, nodes join with one of role node: `tunemesh token create --role node`", token.Role)}
	}
	if j.preflight && j.member.Credential == "" {
		if err := j.examine(ctx); err != nil {
			return nil, err
		}
	}
	for j.member.Credential == "" {
		if _, err := j.enrol(ctx); err == nil {
			break
		} else if refused(err) {
			return nil, err
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		} else {
			j.log.Warn("no server can be asked to take this node; trying again", "servers", j.servers, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
	return client.New(client.Config{Servers: j.servers, Token: j.member.Credential, Renew: j.enrol, UserAgent: "tunemesh-agent/" + version}), nil
}

// examine is `tunemesh doctor` before the first join. A server that cannot be
// reached yet, or is not ready, is no reason not to wait for it.
func (j *joining) examine(ctx context.Context) error {
	d := newExaminer(j.dir, j.servers, j.token).diagnose(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return j.judge(d)
}

// judge says what was found, and whether that keeps this machine from joining.
func (j *joining) judge(d diagnosis) error {
	var failed []string
	for _, f := range d.Findings {
		j.log.Info("preflight", "check", f.Check, "status", f.Status, "detail", f.Detail, "hint", f.Hint)
		if f.Status == statusFailed && !f.passing {
			failed = append(failed, f.Check+": "+f.Detail+" ("+f.Hint+")")
		}
	}
	for _, l := range d.LoRA {
		j.log.Info("preflight", "device", l.Device, "lora_billions", l.Billions, "lora_billions_int4", l.Int4, "hint", l.Hint)
	}
	if len(failed) > 0 {
		return fmt.Errorf("this machine is not fit to be a node: %s; --skip-preflight lets it join all the same", strings.Join(failed, "; "))
	}
	return nil
}

// refused says whether a server answered that it does not want this node.
func refused(err error) bool {
	var p *api.Problem
	return errors.Is(err, client.ErrWrongCA) || errors.As(err, &p) && p.Status/100 == 4 && p.Status != http.StatusTooManyRequests && p.Status != http.StatusRequestTimeout
}

// enrol gets this node a new credential and keeps it.
func (j *joining) enrol(ctx context.Context) (string, error) {
	// Without a join token the old credential says which CA to trust; it need not
	// be valid any more, the key is.
	cp := client.New(client.Config{Servers: j.servers, Token: cmp.Or(j.token, j.member.Credential), UserAgent: "tunemesh-agent/" + version})
	defer cp.Close()
	reply, err := nodeagent.Enrol(ctx, j.id, j.name, cp)
	if err != nil {
		return "", err
	}
	j.member = nodeagent.Membership{Credential: reply.Credential, Servers: j.servers}
	if err := j.member.Save(j.dir); err != nil {
		return "", err
	}
	if reply.Approval != "" {
		j.log.Warn("this node waits for an administrator: tunemesh node approve "+j.id.NodeID, "node", j.id.NodeID, "approval", reply.Approval)
	}
	return reply.Credential, nil
}

// registered takes up the servers that the mesh tells of, to go to when those
// that were given fail.
func (j *joining) registered(cp *client.Client, r api.RegistrationReply) {
	given := !slices.ContainsFunc(j.servers, func(s string) bool { return !onLoopback(s) })
	var more []string
	for _, s := range r.Servers {
		// What is loopback for a server is another machine here, unless this agent
		// sits beside it.
		if given || !onLoopback(s) {
			more = append(more, s)
		}
	}
	cp.AddServers(more)
	known := slices.Clone(j.servers)
	for _, s := range more {
		if s = strings.TrimRight(s, "/"); !slices.Contains(known, s) {
			known = append(known, s)
		}
	}
	if j.member.Credential != "" && !slices.Equal(known, j.member.Servers) {
		j.member.Servers = known
		if err := j.member.Save(j.dir); err != nil {
			j.log.Warn("the servers of the mesh cannot be kept for the next start", "err", err)
		}
	}
}

func onLoopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}
