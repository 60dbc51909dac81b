// Package deploy checks what operators deploy beside the binary: Prometheus's
// configuration and rules, Grafana's dashboards. Every metric that they name
// must be one that the product exports.
package deploy
