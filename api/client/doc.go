// Package client is the typed HTTP client of the control plane, for agents, the
// command line and tests.
//
// It knows the routes, the retry rules and the error documents, and nothing of
// what a caller does with the answers. Calls that are safe to repeat are
// repeated with exponential backoff and full jitter, on the next server where
// several are given; every error of a server is an *api.Problem in the chain.
package client
