// Package exporter serves an agent's figures to Prometheus: its GPUs, its
// machine's load, the attempts that run, spool and cache. Where a machine has
// no GPU exporter of its own, this is it.
//
// It must not know how the figures come about, nor the control plane.
package exporter
