// Package inference serves a base or tuned model: it loads the weights once,
// keeps keys and values of each request, and answers a gRPC API that streams
// text. It is a process of its own, never a part of the control plane; behind
// the scheduler it runs as the stage `inference`, of which a pipeline may have
// several replicas.
//
// One goroutine computes, a token of each request in turn, so that a long
// answer does not hold up a short one. It must not know of jobs or nodes beyond
// the stage contract.
package inference
