package view

import "slices"

// mostPoints bounds a curve; no terminal shows as many.
const mostPoints = 4096

// curve is the losses of a stage in the order of its steps. When it is full it
// keeps every second point, and from then on takes fewer in, so that the points
// stay evenly apart.
type curve struct {
	points []point
	stride int // one of so many measurements is kept; 0 is 1
	passed int // measurements since the last one kept
	latest point
	any    bool
}

type point struct {
	step int64
	loss float64
}

// add appends a measurement; step is -1 where it is not known. An attempt that
// goes on from a checkpoint measures some steps again: what was measured from
// there on is replaced.
func (c *curve) add(step int64, loss float64) {
	p := point{step, loss}
	if c.any && step >= 0 && step <= c.latest.step {
		c.points = slices.DeleteFunc(c.points, func(old point) bool { return old.step >= step })
		c.passed = 0
	}
	c.latest, c.any = p, true
	if c.passed > 0 {
		c.passed--
		return
	}
	if len(c.points) == mostPoints {
		for i := range mostPoints / 2 {
			c.points[i] = c.points[2*i]
		}
		c.points = c.points[:mostPoints/2]
		c.stride = max(c.stride, 1) * 2
	}
	c.points = append(c.points, p)
	c.passed = max(c.stride, 1) - 1
}

// values are the losses, the newest always among them.
func (c *curve) values() []float64 {
	out := make([]float64, 0, len(c.points)+1)
	for _, p := range c.points {
		out = append(out, p.loss)
	}
	if n := len(c.points); c.any && (n == 0 || c.points[n-1] != c.latest) {
		out = append(out, c.latest.loss)
	}
	return out
}
