package state_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// BenchmarkApply measures commands a second, encoding and all, with 10,000
// stages in the state.
func BenchmarkApply(b *testing.B) {
	m := newMesh(b)
	m.node("n1", 1<<30)
	for i := range 2500 {
		m.job(fmt.Sprintf("old%06d", i), chain("a", "b", "c", "d"))
	}
	var fences []uint64
	b.Run("create_job", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.job(fmt.Sprintf("job%08d", m.index), chain("a"))
		}
	})
	jobs, err := m.store.Jobs(state.JobFilter{}, 0)
	if err != nil {
		b.Fatal(err)
	}
	next := 0
	b.Run("place_attempt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if next == len(jobs) {
				b.StopTimer()
				m.job(fmt.Sprintf("more%08d", m.index), chain("a"))
				more, _ := m.store.Jobs(state.JobFilter{}, 1)
				jobs = append(jobs, more...)
				b.StartTimer()
			}
			// Nodes with few attempts, as real ones.
			node := fmt.Sprintf("n%d", next/8)
			if next%8 == 0 {
				b.StopTimer()
				m.node(node, 1<<20)
				b.StartTimer()
			}
			fences = append(fences, m.place(jobs[next].ID, "a", node))
			next++
		}
	})
	b.Run("report_attempts", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			// After the last, repeats: the same look-ups, no change.
			m.accepted(fences[i%len(fences)], succeeded(`{"rows":1000}`))
			i++
		}
	})
}

// BenchmarkSnapshot measures 100,000 stages: what a server reads when it starts.
func BenchmarkSnapshot(b *testing.B) {
	m := newMesh(b)
	m.node("n1", 1<<30)
	p := chain("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	for i := range 10_000 {
		m.job(fmt.Sprintf("job%06d", i), p)
	}
	var snapshot bytes.Buffer
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			snapshot.Reset()
			if err := m.store.WriteSnapshot(&snapshot); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(snapshot.Len())/(1<<20), "MiB")
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			s, err := state.New()
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Restore(bytes.NewReader(snapshot.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ready", func(b *testing.B) {
		for b.Loop() {
			if len(m.store.ReadyStages()) != 10_000 {
				b.Fatal("wrong number")
			}
		}
	})
}
