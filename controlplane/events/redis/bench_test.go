package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
)

func metric() api.Event {
	loss, rate, step := 1.5, 0.0002, int64(100)
	return api.Event{Level: api.LevelMetric, Agent: "TrainingAgent", Stage: "training", Timestamp: time.Unix(1, 0).UTC(), Step: &step, Loss: &loss, LearningRate: &rate, Message: "step"}
}

func quantile(all []time.Duration, q float64) float64 {
	slices.Sort(all)
	return float64(all[int(q*float64(len(all)-1))].Microseconds())
}

// BenchmarkAppendToFollow measures from the call of Append to the event in a
// reader's hands, and the same of a bare XADD and XREAD BLOCK on the same Redis,
// by turns so that both meet the same noise.
func BenchmarkAppendToFollow(b *testing.B) {
	for _, fsync := range []string{"always", "everysec"} {
		b.Run("fsync "+fsync, func(b *testing.B) {
			s := newServer(b, "--appendfsync", fsync)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			l := open(b, redis.Config{URL: s.url()})
			ours, bare := make(chan time.Time, 1), make(chan time.Time, 1)
			go func() {
				tail := eventstest.Follow(l, "J", 0)
				for {
					got, err := tail.Next(ctx, 100)
					if err != nil {
						return
					}
					now := time.Now()
					for range got {
						ours <- now
					}
				}
			}()
			writer, reader := s.client(), s.client()
			done := make(chan struct{})
			go func() {
				defer close(done)
				id := "0"
				for ctx.Err() == nil {
					got, err := reader.XRead(ctx, &goredis.XReadArgs{Streams: []string{"bare", id}, Count: 256, Block: 100 * time.Millisecond}).Result()
					now := time.Now()
					if err == nil {
						for _, m := range got[0].Messages {
							var e api.Event
							if json.Unmarshal([]byte(m.Values["e"].(string)), &e) == nil {
								bare <- now
							}
							id = m.ID
						}
					}
				}
			}()
			e := metric()
			data, err := json.Marshal(e)
			if err != nil {
				b.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			var ourTimes, bareTimes []time.Duration
			next := uint64(1)
			for b.Loop() {
				begun := time.Now()
				if next, err = l.Append(ctx, "J", "a1", next, []api.Event{e}); err != nil {
					b.Fatal(err)
				}
				ourTimes = append(ourTimes, (<-ours).Sub(begun))
				begun = time.Now()
				if err := writer.XAdd(ctx, &goredis.XAddArgs{Stream: "bare", Values: []any{"e", data}}).Err(); err != nil {
					b.Fatal(err)
				}
				bareTimes = append(bareTimes, (<-bare).Sub(begun))
			}
			cancel()
			<-done
			b.ReportMetric(quantile(ourTimes, 0.5), "p50-us")
			b.ReportMetric(quantile(ourTimes, 0.99), "p99-us")
			b.ReportMetric(quantile(bareTimes, 0.5), "bare-p50-us")
			b.ReportMetric(quantile(bareTimes, 0.99), "bare-p99-us")
			b.ReportMetric(quantile(ourTimes, 0.5)/quantile(bareTimes, 0.5), "p50-ratio")
			b.ReportMetric(quantile(ourTimes, 0.99)/quantile(bareTimes, 0.99), "p99-ratio")
		})
	}
}

// BenchmarkThroughput measures events per second of one writer whose events a
// reader follows to the last, and the same of bare pipelined XADDs and XREAD
// BLOCK, in turns.
func BenchmarkThroughput(b *testing.B) {
	for _, batch := range []int{1, 64, 500} {
		b.Run(fmt.Sprintf("batches of %d", batch), func(b *testing.B) {
			s := newServer(b)
			ctx := b.Context()
			l := open(b, redis.Config{URL: s.url()})
			tail := eventstest.Follow(l, "J", 0)
			writer, reader := s.client(), s.client()
			id, next := "0", uint64(1)
			e := metric()
			list := slices.Repeat([]api.Event{e}, batch)
			data, err := json.Marshal(e)
			if err != nil {
				b.Fatal(err)
			}
			const round = 2000 // events of each kind, then the other's turn
			var ours, bare time.Duration
			total := 0
			for b.Loop() {
				begun, n := time.Now(), 0
				end := next + uint64(round/batch*batch)
				read := make(chan error, 1)
				go func() {
					for tail.Resume() < end-1 {
						if _, err := tail.Next(ctx, 500); err != nil {
							read <- err
							return
						}
					}
					read <- nil
				}()
				for next < end {
					if next, err = l.Append(ctx, "J", "a1", next, list); err != nil {
						b.Fatal(err)
					}
					n += batch
				}
				if err := <-read; err != nil {
					b.Fatal(err)
				}
				ours += time.Since(begun)
				total += n

				begun = time.Now()
				go func() {
					for seen := 0; seen < n; {
						got, err := reader.XRead(ctx, &goredis.XReadArgs{Streams: []string{"bare", id}, Count: 256, Block: time.Second}).Result()
						if err != nil {
							read <- err
							return
						}
						for _, m := range got[0].Messages {
							var e api.Event
							_ = json.Unmarshal([]byte(m.Values["e"].(string)), &e)
							id = m.ID
							seen++
						}
					}
					read <- nil
				}()
				for range n / batch {
					if _, err := writer.Pipelined(ctx, func(p goredis.Pipeliner) error {
						for range list {
							p.XAdd(ctx, &goredis.XAddArgs{Stream: "bare", Values: []any{"e", data}})
						}
						return nil
					}); err != nil {
						b.Fatal(err)
					}
				}
				if err := <-read; err != nil {
					b.Fatal(err)
				}
				bare += time.Since(begun)
			}
			rate := func(d time.Duration) float64 { return float64(total) / d.Seconds() }
			b.ReportMetric(rate(ours), "events/s")
			b.ReportMetric(rate(bare), "bare-events/s")
			b.ReportMetric(rate(ours)/rate(bare), "rate-ratio")
		})
	}
}
