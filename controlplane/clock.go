//go:build !chaos

package controlplane

import "time"

// clock is the time of day that this server puts into commands.
func clock() func() time.Time { return time.Now }
