//go:build linux

package chaos

import (
	"math/rand/v2"
	"testing"
)

// noisy is a process that holds 60 MB, breathes as a garbage collector makes
// it, and grows by a share an hour.
func noisy(random *rand.Rand, minutes int, perHour float64) (times, values []float64) {
	breath := 0.0
	for i := range minutes {
		hours := float64(i) / 60
		breath = 0.6*breath + 800*random.NormFloat64()
		times = append(times, hours)
		values = append(values, 60_000*(1+perHour*hours)+breath)
	}
	return times, values
}

// The soak's judge finds planted leaks and accuses nobody who only breathes.
func TestTheTrendFindsPlantedLeaks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	found, accused := 0, 0
	for range 200 {
		if f := fit3(noisy(random, 240, 0.05)); f.low > 0.01 {
			found++
		}
		if f := fit3(noisy(random, 240, 0)); f.low > 0.01 {
			accused++
		}
	}
	if found < 195 || accused > 0 {
		t.Errorf("a leak of 5 %% an hour is found %d of 200 times in four hours, nothing at all %d times", found, accused)
	}
	// A file that is never closed, every ten minutes.
	var times, files []float64
	for i := range 45 {
		times, files = append(times, float64(i)/60), append(files, float64(30+i/10))
	}
	if f := fit(times, files, 3); f.low <= 0.01 {
		t.Errorf("a leak of six files an hour: %+v", f)
	}
	// One file more, once, is none; nor is a series that stands still.
	for i := range files {
		files[i] = 30
		if i > 20 {
			files[i] = 31
		}
	}
	if f := fit(times, files, 3); f.low > 0.01 {
		t.Errorf("one file more: %+v", f)
	}
	if f := fit(times, make([]float64, len(times)), 3); f.low != 0 || f.perHour != 0 {
		t.Errorf("nothing at all: %+v", f)
	}
	if f := fit(times[:2], files[:2], 3); f.low > -1 {
		t.Errorf("two samples prove nothing: %+v", f)
	}
}

func fit3(times, values []float64) trend { return fit(times, values, 3) }
