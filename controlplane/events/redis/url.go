package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// target is where Redis is and how to be let in.
type target struct {
	addrs              []string // host:port of the server, the Sentinels or the Cluster's seeds
	master             string   // what Sentinel calls the server; empty without Sentinel
	cluster            bool
	db                 int
	user, password     string // for Redis
	sentinelUser       string
	sentinelPassword   string
	tls, insecureHosts bool
}

// parseURL reads the forms
//
//	redis://[USER:PASSWORD@]HOST[:PORT][/DB]
//	redis+sentinel://[USER:PASSWORD@]HOST[:PORT]/MASTER[/DB]?addr=HOST:PORT&sentinel_username=U&sentinel_password=P
//	redis+cluster://[USER:PASSWORD@]HOST[:PORT]?addr=HOST:PORT
//
// and the same with rediss for TLS (skip_verify=true takes any certificate).
// addr may come several times and adds Sentinels or seeds. No error of it
// contains a password.
func parseURL(raw string) (t target, err error) {
	u, err := url.Parse(raw)
	// An @ behind the host means that a password has a / or ? in it, which ends
	// the host: what follows must not be quoted.
	if err != nil || strings.Contains(u.EscapedPath()+u.RawQuery, "@") || u.Fragment != "" {
		return t, errors.New("events/redis: the Redis URL cannot be parsed (special characters in a password must be %-encoded)")
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	if (scheme != "redis" && scheme != "rediss") || (kind != "" && kind != "sentinel" && kind != "cluster") {
		return t, errors.New("events/redis: the Redis URL begins with none of redis://, redis+sentinel://, redis+cluster://, rediss://, rediss+sentinel://, rediss+cluster://")
	}
	if u.Hostname() == "" {
		return t, errors.New("events/redis: the Redis URL names no host")
	}
	t.tls, t.cluster = scheme == "rediss", kind == "cluster"
	t.user = u.User.Username()
	t.password, _ = u.User.Password()
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "6379", true: "26379"}[kind == "sentinel"]
	}
	t.addrs = []string{net.JoinHostPort(u.Hostname(), port)}
	return t, errors.Join(t.readPath(kind, strings.Trim(u.Path, "/")), t.readQuery(kind, u.Query()))
}

func (t *target) readPath(kind, path string) error {
	db := path
	if kind == "sentinel" {
		t.master, db, _ = strings.Cut(path, "/")
		if t.master == "" {
			return errors.New("events/redis: the Redis URL names no master: redis+sentinel://HOST:PORT/MASTER")
		}
	}
	if db == "" {
		return nil
	}
	n, err := strconv.Atoi(db)
	if err != nil || n < 0 {
		return fmt.Errorf("events/redis: the Redis URL's database %q is no number", db)
	}
	if t.cluster && n > 0 {
		return errors.New("events/redis: a Redis Cluster has only the database 0")
	}
	t.db = n
	return nil
}

func (t *target) readQuery(kind string, q url.Values) error {
	for name, values := range q {
		switch {
		case name == "addr" && kind != "":
			for _, a := range values {
				if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
					return fmt.Errorf("events/redis: addr=%q in the Redis URL: want HOST:PORT", a)
				}
				t.addrs = append(t.addrs, a)
			}
		case name == "sentinel_username" && kind == "sentinel":
			t.sentinelUser = values[0]
		case name == "sentinel_password" && kind == "sentinel":
			t.sentinelPassword = values[0]
		case name == "skip_verify" && t.tls:
			insecure, err := strconv.ParseBool(values[0])
			if err != nil {
				return errors.New("events/redis: skip_verify in the Redis URL: want true or false")
			}
			t.insecureHosts = insecure
		default:
			return fmt.Errorf("events/redis: the Redis URL has the parameter %q, which does not exist here", name)
		}
	}
	return nil
}

// String names the place without secrets.
func (t target) String() string {
	where := strings.Join(t.addrs, ",")
	switch {
	case t.master != "":
		return fmt.Sprintf("Redis %q behind Sentinel %s", t.master, where)
	case t.cluster:
		return "Redis Cluster " + where
	}
	return "Redis " + where
}

// options are those that both clients share.
func (t target) options() *goredis.UniversalOptions {
	o := &goredis.UniversalOptions{
		Addrs: t.addrs, MasterName: t.master, IsClusterMode: t.cluster, DB: t.db,
		Username: t.user, Password: t.password,
		SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,
	}
	if t.tls {
		// crypto/tls checks the name of each address, since none is set here.
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.insecureHosts}
	}
	return o
}
