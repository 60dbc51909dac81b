// Package grafana builds the Grafana dashboards of a mesh, in code, so that a
// metric's name stands once in a panel and a test can check it. The JSON files
// beside it are made from it: go generate ./deploy/grafana.
//
// Nothing of the product imports it.
package grafana

//go:generate go run ./build
