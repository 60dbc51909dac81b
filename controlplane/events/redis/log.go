package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// Config says where Redis is and what stays there.
type Config struct {
	URL    string // see docs/decisions/0011-redis-streams.md for its forms
	Prefix string // of all keys; empty means "tunemesh"
	// KeepBytes and KeepFor bound each stream's JSON in bytes and each event's
	// age: an append lets go of what is beyond. 0 keeps all. Whoever reads where
	// events are gone gets a WARN event in their place that says which.
	KeepBytes int64
	KeepFor   time.Duration
	// RingEvents is how many of a followed job's newest events stay in memory for
	// its readers; 0 means 512.
	RingEvents int
	// Followed is how many jobs can be followed at once without waiting for each
	// other: each holds a connection. 0 means 512.
	Followed int
	// Base says what of a job is archived; nil means nothing ever is.
	Base func(job string) events.Base
	Now  func() time.Time // nil means time.Now
	Log  *slog.Logger
}

// Log is an events.Log in Redis Streams.
type Log struct {
	config Config
	where  string
	client goredis.UniversalClient // for all that answers at once
	tails  goredis.UniversalClient // for reads that block

	life    context.Context
	end     context.CancelFunc
	readers sync.WaitGroup
	away    atomic.Bool // what was logged last

	mu        sync.Mutex
	closed    bool
	followers map[string]*follower
}

var _ events.Log = (*Log)(nil)

// Times. A command that is tried three times answers or fails within 10 s.
const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 3 * time.Second
	retries     = 2
	poolSize    = 64
	tailPatient = 30 * time.Second // for a connection where more jobs are followed than there are
)

// bridge takes what go-redis would print to standard error. Its logger belongs
// to the process, so it is set once, before the first client is made.
type bridge struct{}

func (bridge) Printf(ctx context.Context, format string, v ...any) {
	slog.Default().DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...))
}

var bridgeLogger = sync.OnceFunc(func() { goredis.SetLogger(bridge{}) })

// Open makes a log. Redis need not answer yet: until it does, calls fail with
// events.ErrAway. That it answers and refuses is an error.
func Open(ctx context.Context, c Config) (*Log, error) {
	t, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = "tunemesh"
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		return nil, fmt.Errorf("events/redis: the prefix %q has a brace, which would move its keys to other slots", c.Prefix)
	}
	if c.RingEvents <= 0 {
		c.RingEvents = 512
	}
	if c.Followed <= 0 {
		c.Followed = 512
	}
	if c.Base == nil {
		c.Base = func(string) events.Base { return events.Base{} }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	bridgeLogger()
	l := &Log{config: c, where: t.String(), followers: map[string]*follower{}}
	l.client, l.tails = clients(t, c.Followed)
	l.life, l.end = context.WithCancel(context.Background())
	if err := l.check(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func clients(t target, followed int) (commands, tails goredis.UniversalClient) {
	base := func() *goredis.UniversalOptions {
		o := t.options()
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
		o.DialerRetries = 1
		o.ContextTimeoutEnabled = true
		o.PipelinePoolSize = -1
		// Of Redis Enterprise; other servers answer it with an error.
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		return o
	}
	o := base()
	// Every command here may be sent again: reads, and the script by its numbers.
	o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = retries, 10*time.Millisecond, 500*time.Millisecond
	o.PoolSize, o.PoolTimeout = poolSize, ioTimeout
	commands = goredis.NewUniversalClient(o)

	o = base()
	o.MaxRetries = -1 // followers wait and try again themselves
	o.PoolSize, o.PoolTimeout = followed, tailPatient
	o.MaxIdleConns = 16
	return commands, goredis.NewUniversalClient(o)
}

// check asks Redis once whether it will do.
func (l *Log) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	if err := l.client.Ping(ctx).Err(); err != nil {
		if err = l.fault("ask", err); errors.Is(err, events.ErrAway) {
			l.config.Log.Warn("the event store does not answer yet", "store", l.where, "err", err)
			return nil
		}
		return err
	}
	// Some hosts forbid CONFIG; then the operator knows.
	for name, bad := range map[string][]string{"appendonly": {"no"}, "appendfsync": {"everysec", "no"}} {
		got, err := l.client.ConfigGet(ctx, name).Result()
		for _, b := range bad {
			if err == nil && got[name] == b {
				l.config.Log.Warn("events that Redis acknowledged can be lost when it crashes; senders will send them again", "store", l.where, "setting", name, "is", b)
			}
		}
	}
	if got, err := l.client.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil && strings.HasPrefix(got["maxmemory-policy"], "allkeys") {
		l.config.Log.Warn("Redis removes events when its memory is full; set maxmemory-policy noeviction", "store", l.where, "is", got["maxmemory-policy"])
	}
	return nil
}

// keys are a job's stream and counters.
func (l *Log) keys(job string) (stream, counters string) {
	stream = l.config.Prefix + ":events:{" + job + "}"
	return stream, stream + ":n"
}

// fault puts an error into words; what means that Redis is away is ErrAway.
func (l *Log) fault(doing string, err error) error {
	switch {
	case errors.Is(err, goredis.ErrClosed):
		return events.ErrClosed
	case goredis.IsAuthError(err):
		return fmt.Errorf("events/redis: %s: %w: check user and password in the Redis URL", l.where, err)
	case goredis.IsPermissionError(err):
		return fmt.Errorf("events/redis: %s: %s: %w: this user may not run it", l.where, doing, err)
	case goredis.IsOOMError(err):
		return fmt.Errorf("events/redis: %s is full (maxmemory), %s: %w: %w", l.where, doing, events.ErrAway, err)
	case strings.Contains(err.Error(), "equal or smaller than the target stream top item"):
		return fmt.Errorf("events/redis: %s: %s: the stream is ahead of its counters, somebody changed them: delete the key that ends in :n, it is counted anew: %w", l.where, doing, err)
	case isAnswer(err):
		return fmt.Errorf("events/redis: %s: %s: %w", l.where, doing, err)
	}
	return fmt.Errorf("events/redis: %s: %s: %w: %w", l.where, doing, events.ErrAway, err)
}

// isAnswer says whether a server said no that will say no again. Some answers
// only mean: not now.
func isAnswer(err error) bool {
	var answer goredis.Error
	if !errors.As(err, &answer) || errors.Is(err, goredis.Nil) {
		return false
	}
	for _, passing := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED", "MOVED", "ASK", "ERR max number of clients"} {
		if strings.HasPrefix(err.Error(), passing) {
			return false
		}
	}
	return true
}

// done returns what a call returns after an error of Redis.
func (l *Log) done(ctx context.Context, doing string, err error) error {
	if l.life.Err() != nil {
		return events.ErrClosed
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.fault(doing, err)
}

// Next implements events.Log.
func (l *Log) Next(ctx context.Context, job, source string) (uint64, error) {
	if err := events.CheckNames(job, source); err != nil {
		return 0, err
	}
	c, err := l.counters(ctx, l.client, job, "gen", "last", "seed", "s:"+source)
	if err != nil {
		return 0, l.done(ctx, "count the lines of job "+job, err)
	}
	return c.sources[source] + 1, nil
}

// finisher gives a job's keys an end, which an append takes back.
var finisher = goredis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'fin', '1')
  redis.call('PEXPIREAT', KEYS[1], ARGV[1])
  redis.call('PEXPIREAT', KEYS[2], ARGV[1])
end
return 1`)

// Finish starts the retention of a finished job: its stream goes after a time,
// unless something is appended before. Called again it sets the time anew. What
// is appended after the stream has gone goes on after the job's base; without
// one, at 1.
func (l *Log) Finish(ctx context.Context, job string, keep time.Duration) error {
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return err
	}
	stream, counters := l.keys(job)
	if err := finisher.Run(ctx, l.client, []string{stream, counters}, l.config.Now().Add(keep).UnixMilli()).Err(); err != nil {
		return l.done(ctx, "finish job "+job, err)
	}
	return nil
}

// Close ends the followers and closes the connections; waiters get ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.end()
	// Only closing its connection wakes a blocked read.
	err := errors.Join(l.tails.Close(), l.client.Close())
	l.readers.Wait()
	if err != nil {
		return fmt.Errorf("events/redis: close: %w", err)
	}
	return nil
}

// Append implements events.Log. A batch goes to Redis in parts, since Redis does
// nothing else while the script runs; each part compares again.
func (l *Log) Append(ctx context.Context, job, source string, firstSeq uint64, list []api.Event) (next uint64, err error) {
	if err := events.CheckNames(job, source); err != nil {
		return 0, err
	}
	if firstSeq == 0 {
		return 0, errors.New("events: lines are numbered from 1, this batch starts at 0")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	rest := events.Number(firstSeq, list)
	for {
		part, more, err := encode(rest)
		if err != nil {
			return 0, err
		}
		stored, err := l.appendPart(ctx, job, source, firstSeq, part)
		if err != nil {
			return 0, l.done(ctx, "append to job "+job, err)
		}
		if f := l.following(job); f != nil {
			f.appended(stored.gen, stored.last)
		}
		if stored.hole {
			return stored.next, events.ErrHole
		}
		if len(more) == 0 {
			return stored.next, nil
		}
		rest, firstSeq = more, part[len(part)-2].(uint64)+1
	}
}
