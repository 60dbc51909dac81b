package main

import (
	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/controlplane"
)

// eventFlags defines how long events stay in the event log.
func eventFlags(cmd *cobra.Command, c *controlplane.EventsConfig) {
	f := cmd.Flags()
	f.Int64Var(&c.KeepBytes, "events-keep-bytes", 0, "`BYTES` of a running job's events to keep, the oldest go (0: all, until the job is archived)")
	f.DurationVar(&c.KeepFor, "events-keep-for", 0, "`AGE` at which a running job's events go (0: never before the job is archived)")
	f.DurationVar(&c.KeepArchived, "events-keep-archived", 0, "`TIME` that an ended job's events stay in the log beside their archive (default 1h)")
}
