// Package trust makes what servers of a cluster know each other by: the cluster
// secret and what is derived from it, the cluster's CA, server certificates, and
// the TLS settings of both ends.
//
// It knows keys and certificates; it must not know Raft, HTTP routes or files.
package trust
