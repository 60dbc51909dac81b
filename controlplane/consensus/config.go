package consensus

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Layer accepts and dials Raft's connections.
type Layer interface {
	net.Listener
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

// Config says how a server takes part. Zero durations and numbers mean the
// defaults.
type Config struct {
	// ID names the server for good. Dir holds its log and snapshots.
	ID, Dir string
	// Bind is the host:port for Raft's connections (port 0: any); Advertise is
	// how other servers reach it, by default the bound address.
	Bind, Advertise string
	// Layer carries the connections in place of plain TCP on Bind: TLS, on a port
	// shared with others. Advertise is then required.
	Layer Layer
	// HTTPAddress is the base URL of this server's API, for others.
	HTTPAddress string
	// Self is what else the others are told of this server; id and addresses are
	// filled in.
	Self state.Server
	// Bootstrap makes this server the only voter of a new mesh if Dir is new.
	Bootstrap bool
	// Founders are the voters of a new cluster, this one among them, if Dir is
	// new. Several servers may be given the same.
	Founders []state.Server
	// OpenLog opens the log, at a path within Dir; OpenLog of this package by
	// default. What it returns has a write on disk when the write returns.
	OpenLog func(path string) (Log, error)
	Log     *slog.Logger
	// Fatal is called when the server must stop at once: its disk hangs, or the
	// log holds what this program does not know. It should end the process; by
	// default it panics.
	Fatal func(error)

	// HeartbeatTimeout is the silence after which an election starts; a leader
	// that reaches no quorum for half of it steps down. Followers look after one to
	// two such times, and again after as much where they had heard something: with
	// 1 s a killed leader was replaced in 2.1 s (median of 50, three servers on two
	// busy cores), too late for the 2 s that are promised; with 750 ms, the default,
	// in 1.7 s. Not much shorter: trainings on the same machines can hold a server up for
	// 250 ms. A single voter needs nobody's heartbeats: there, short is safe.
	HeartbeatTimeout time.Duration
	// SnapshotThreshold is how many entries there are between snapshots,
	// TrailingLogs how many stay for servers that are behind.
	SnapshotThreshold, TrailingLogs uint64
	SnapshotInterval                time.Duration
	// StallLimit is how long a write to the log may take.
	StallLimit time.Duration
	// MinFreePercent and MinFreeBytes: proposals are refused when the disk has
	// less free than both. Both, because five per cent of a large disk is more
	// than a log ever needs.
	MinFreePercent float64
	MinFreeBytes   uint64
	// ApplyTimeout bounds Apply where the context has no deadline.
	ApplyTimeout time.Duration
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeartbeatTimeout, 750*time.Millisecond)
	def(&c.SnapshotInterval, 2*time.Minute)
	def(&c.StallLimit, 10*time.Second)
	def(&c.ApplyTimeout, 10*time.Second)
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 8192
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 10240
	}
	if c.MinFreePercent == 0 {
		c.MinFreePercent = 5
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 1 << 30
	}
	if c.OpenLog == nil {
		c.OpenLog = OpenLog
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) { panic(err) }
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.ID == "":
		return errors.New("consensus: server id is empty")
	case c.Dir == "":
		return errors.New("consensus: data directory is empty")
	case c.Bind == "" && c.Layer == nil:
		return errors.New("consensus: bind address is empty")
	case c.Layer != nil && c.Advertise == "":
		return errors.New("consensus: the address to advertise is empty")
	}
	return nil
}
