//go:build linux

package events_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// scale is a benchmark's size: small, so that it can run among the tests, or
// what the environment says.
func scale(b *testing.B, name string, small int) int {
	b.Helper()
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return small
}

// stores runs a benchmark on a server with its own disk and on one with Redis,
// which has its usual durability (appendfsync everysec).
func stores(b *testing.B, run func(b *testing.B, redis *redisServer, url string)) {
	redis := startRedis(b, "--appendfsync", "everysec")
	b.Run("disk", func(b *testing.B) { run(b, redis, "") })
	b.Run("redis", func(b *testing.B) { run(b, redis, redis.url()) })
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func quantile(d []time.Duration, q float64) float64 {
	slices.Sort(d)
	return float64(d[int(q*float64(len(d)-1))]) / 1e6
}

// BenchmarkEmitToReceipt measures the whole way of a line: written by a stage's
// process, read by the agent, shipped over HTTP, appended durably, and received
// by a reader of the event stream; at 1, 1,000 and 10,000 lines a second. "bare"
// is XADD to XREAD BLOCK at the same rate against the same Redis.
func BenchmarkEmitToReceipt(b *testing.B) {
	for _, rate := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprintf("%d a second", rate), func(b *testing.B) {
			stores(b, func(b *testing.B, redis *redisServer, url string) {
				n := scale(b, "TUNEMESH_SECONDS", 2) * rate
				ours := emitToReceipt(b, url, float64(rate), max(n, 3))
				bare := bareRedis(b, redis, float64(rate), max(n, 3))
				b.ReportMetric(0, "ns/op")
				for name, q := range map[string]float64{"p50": .5, "p99": .99} {
					o, r := quantile(ours, q), quantile(bare, q)
					b.ReportMetric(o, name+"-ms")
					b.ReportMetric(r, "bare-"+name+"-ms")
					b.ReportMetric(o/r, name+"-ratio")
				}
			})
		})
	}
}

// emitToReceipt returns how long each line was on its way.
func emitToReceipt(b *testing.B, url string, rate float64, n int) (delays []time.Duration) {
	c := newCluster(b, 1, url)
	_, end := c.agent(func(c *nodeagent.Config) { c.ProbeInterval = 5 * time.Second })
	defer end()
	job := c.submit(rate, n)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(float64(n)/rate*1e9))
	defer cancel()
	over := errors.New("over")
	err := c.client(api.RoleUser).Events(ctx, job, 0, true, func(e api.Event) error {
		if e.Level == api.LevelMetric {
			delays = append(delays, time.Since(e.Timestamp))
			if len(delays) == n {
				return over
			}
		}
		return nil
	})
	if !errors.Is(err, over) {
		b.Fatalf("%d of %d lines, then %v", len(delays), n, err)
	}
	return delays
}

// bareRedis is the least that a stream through Redis costs.
func bareRedis(b *testing.B, redis *redisServer, rate float64, n int) (delays []time.Duration) {
	writer, reader := goredis.NewClient(&goredis.Options{Addr: redis.addr}), goredis.NewClient(&goredis.Options{Addr: redis.addr})
	defer writer.Close()
	defer reader.Close()
	ctx := context.Background()
	stream := fmt.Sprint("bare", time.Now().UnixNano())
	defer writer.Del(ctx, stream)
	var reading sync.WaitGroup
	reading.Go(func() {
		for id := "0"; len(delays) < n; {
			got, err := reader.XRead(ctx, &goredis.XReadArgs{Streams: []string{stream, id}, Count: 256, Block: time.Second}).Result()
			if errors.Is(err, goredis.Nil) {
				continue
			}
			if err != nil {
				b.Error(err)
				return
			}
			for _, m := range got[0].Messages {
				at, _ := strconv.ParseInt(m.Values["t"].(string), 10, 64)
				delays = append(delays, time.Duration(time.Now().UnixNano()-at))
				id = m.ID
			}
		}
	})
	line := strings.Repeat("x", 230)
	begin := time.Now()
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(float64(i) / rate * 1e9))))
		if err := writer.XAdd(ctx, &goredis.XAddArgs{Stream: stream, Values: []any{"t", time.Now().UnixNano(), "e", line}}).Err(); err != nil {
			b.Fatal(err)
		}
	}
	reading.Wait()
	return delays
}

// attempt places an attempt of a new job, as if an agent ran it.
func (c *cluster) attempt(i int) (job string, fence uint64) {
	c.t.Helper()
	c.credential(filepath.Join(c.dir, "agent"))
	id, err := nodeagent.LoadIdentity(filepath.Join(c.dir, "agent"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.must(state.UpsertNode{At: time.Now(), Node: api.Node{ID: id.NodeID, Name: "n", Capability: api.Capability{CPU: api.CPU{Cores: 64}, MemoryBytes: 64 << 30}}})
	job = fmt.Sprintf("01BENCH%d", i)
	c.must(state.CreateJob{Spec: api.JobSpec{ID: job}, Pipeline: api.Pipeline{Nodes: []api.StageSpec{{Name: "s", Kind: api.KindCustom, Command: []string{"x"}, MaxAttempts: 1, MaxDisconnect: "1h"}}}, At: time.Now()})
	for {
		// The leader's loop may have been faster.
		if list := c.store.Attempts(job); len(list) > 0 {
			return job, list[0].Fence
		}
		_, _ = c.apply(state.PlaceAttempt{JobID: job, Stage: "s", NodeID: id.NodeID, Devices: api.Devices{CPUCores: 1}, At: time.Now()})
	}
}

func metric(message string) api.Event {
	step, epoch, loss, rate, speed := int64(120), 1.5, 0.731, 0.0002, 54.2
	return api.Event{Level: api.LevelMetric, Timestamp: time.Now().UTC(), Agent: "TrainingAgent", Message: message,
		Step: &step, Epoch: &epoch, Loss: &loss, LearningRate: &rate, SamplesPerSec: &speed}
}

// BenchmarkIngest measures what a server takes in: batches of 500 as agents ship
// them, packed, of four attempts at a time, each acknowledged when it is
// durable. Its CPU time has that of the senders in it, which share the process.
func BenchmarkIngest(b *testing.B) {
	stores(b, func(b *testing.B, _ *redisServer, url string) {
		c := newCluster(b, 1, url)
		const senders, batch = 4, 500
		rounds := max(scale(b, "TUNEMESH_EVENTS", 20_000)/senders/batch, 1)
		var agents [senders]*client.Client
		var fences [senders]uint64
		for i := range senders {
			_, fences[i] = c.attempt(i)
			agents[i] = c.client(api.RoleNode)
		}
		list := make([]api.Event, batch)
		bytes := 0
		for i := range list {
			list[i] = metric(fmt.Sprintf("line %d", i))
			data, err := events.Encode(list[i])
			if err != nil {
				b.Fatal(err)
			}
			bytes += len(data)
		}
		next := [senders]uint64{}
		spent, begin, n := cpu(b), time.Now(), 0
		for b.Loop() {
			var sending sync.WaitGroup
			for i := range senders {
				sending.Go(func() {
					for range rounds {
						ack, err := agents[i].AppendEvents(context.Background(), fences[i], api.EventBatch{FirstSeq: next[i] + 1, Events: list})
						if err != nil {
							b.Error(err)
							return
						}
						next[i] = ack.NextSeq - 1
					}
				})
			}
			sending.Wait()
			n += senders * rounds * batch
		}
		took := time.Since(begin)
		b.ReportMetric(float64(n)/took.Seconds(), "events/s")
		b.ReportMetric(float64(n)/batch*float64(bytes)/took.Seconds()/1e6, "MB/s")
		b.ReportMetric((cpu(b)-spent).Seconds()*1e3*100_000/float64(n), "cpu-ms/100k-events")
	})
}

// BenchmarkReaders measures many readers of one job on one server, all in
// another process over loopback, with some beside them that take nothing: the
// server's memory for each, and how fast events reach all.
// TUNEMESH_READERS=10000 is the number.
func BenchmarkReaders(b *testing.B) {
	stores(b, func(b *testing.B, _ *redisServer, url string) {
		c := newCluster(b, 1, url)
		count := scale(b, "TUNEMESH_READERS", 500)
		job, _ := c.attempt(0)
		log := c.servers[0].whole
		exe, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		before := inUse()
		cmd := exec.Command(exe, "readers", c.servers[0].addr, c.tokens[api.RoleUser], job, fmt.Sprint(count), fmt.Sprint(count/100))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		pipe, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		out := bufio.NewScanner(pipe)
		say := func() (words []string) {
			if !out.Scan() {
				b.Fatal("the readers ended")
			}
			words = strings.Fields(out.Text())
			if words[1] != "0" {
				b.Fatalf("%s readers failed", words[1])
			}
			return words
		}
		say()
		perReader := float64(inUse()-before) / float64(count+count/100) / 1024
		const burst = 20
		source, first, sent := "a999", uint64(1), 0
		var p50, p99 float64
		spent, begin := cpu(b), time.Now()
		for b.Loop() {
			for range burst { // one at a time, as a training's steps come
				next, err := log.Append(context.Background(), job, source, first, []api.Event{metric(fmt.Sprint("at ", time.Now().UnixNano()))})
				if err != nil {
					b.Fatal(err)
				}
				first = next
				time.Sleep(time.Duration(count) * 10 * time.Microsecond)
			}
			sent += burst
			fmt.Fprintln(in, sent)
			words := say()
			p50, _ = strconv.ParseFloat(words[2], 64)
			p99, _ = strconv.ParseFloat(words[3], 64)
		}
		took := time.Since(begin)
		b.ReportMetric(perReader, "KiB/reader")
		b.ReportMetric(float64(sent*count)/took.Seconds(), "deliveries/s")
		b.ReportMetric((cpu(b)-spent).Seconds()*1e6/float64(sent*count), "cpu-us/delivery")
		b.ReportMetric(p50/1e3, "p50-ms")
		b.ReportMetric(p99/1e3, "p99-ms")
	})
}

// inUse is the heap and the stacks of this process after a collection.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// BenchmarkReplay measures reading a long stream from its beginning: the time to
// its first event and to its last, from the log and from the archive.
// TUNEMESH_EVENTS=1000000 is the number.
func BenchmarkReplay(b *testing.B) {
	stores(b, func(b *testing.B, _ *redisServer, url string) {
		c := newCluster(b, 1, url)
		n := scale(b, "TUNEMESH_EVENTS", 20_000)
		job, _ := c.attempt(0)
		s := c.servers[0]
		for first := uint64(1); first <= uint64(n); {
			list := make([]api.Event, min(500, n+1-int(first)))
			for i := range list {
				list[i] = metric(fmt.Sprintf("line %d", first+uint64(i)))
			}
			next, err := s.whole.Append(context.Background(), job, "a999", first, list)
			if err != nil {
				b.Fatal(err)
			}
			first = next
		}
		measure := func(b *testing.B) {
			var first, last time.Duration
			rounds := 0
			for b.Loop() {
				begin := time.Now()
				req, err := http.NewRequest("GET", "http://"+s.addr+"/v1/jobs/"+job+"/events?follow=false&level=METRIC", nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+c.tokens[api.RoleUser])
				resp, err := (&http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}).Do(req)
				if err != nil {
					b.Fatal(err)
				}
				in := bufio.NewReaderSize(resp.Body, 64<<10)
				seen := 0
				for {
					line, err := in.ReadSlice('\n')
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					if strings.HasPrefix(string(line[:min(len(line), 7)]), "data: {") && strings.Contains(string(line), `"METRIC"`) {
						if seen++; seen == 1 {
							first += time.Since(begin)
						}
					}
				}
				_ = resp.Body.Close()
				if seen != n {
					b.Fatalf("%d events, want %d", seen, n)
				}
				last += time.Since(begin)
				rounds++
			}
			b.ReportMetric(first.Seconds()*1e3/float64(rounds), "first-ms")
			b.ReportMetric(last.Seconds()*1e3/float64(rounds), "last-ms")
			b.ReportMetric(float64(n*rounds)/last.Seconds(), "events/s")
		}
		b.Run("log", measure)
		c.must(state.CancelJob{JobID: job, At: time.Now().Add(-time.Hour)})
		until(b, "the stream is archived", func() bool { return len(c.store.EventArchives(job)) > 0 })
		b.Run("archive", measure)
	})
}
