// Package scheduler decides which ready stage goes to which node: a pure
// function of nodes, requests and the time. It does no I/O, reads no clock,
// keeps nothing between plans, and knows neither Raft nor agents. Equal inputs
// in any order give the same plan.
//
// # What a stage reserves
//
// What its requirements say. Where they say nothing of cores, a stage reserves
// one. A training or an evaluation on CPU - what runs a model - reserves the
// node's training slot, of which there is one, and, where it names no cores, no
// counted ones: it uses whatever the machine has, so a second one beside it would
// only slow both down, while light stages of other jobs may run next to it. On
// GPUs neither needs the slot; the GPUs are the limit. A stage that wants GPU
// memory wants a GPU. Disk is checked against what the node has free but not
// reserved: it changes by itself.
//
// # Policy
//
// Higher priority first, then older jobs, then by id and name. Each stage gets
// the node where it leaves the least over (best fit): GPUs are kept for those
// who need them, small cards go before large ones, nodes that are partly used
// before empty ones. A training without a number of cores takes the node with
// most cores free instead. A stage that fits nowhere does not hold up those
// behind it; so a plan leaves nothing idle that something waiting could use, but
// a large stage can wait for long behind small ones.
//
// # Cost
//
// Requests with equal needs form a class. A class holds a heap of the nodes that
// fit, best first; a placement makes one node's entries stale in all heaps, and
// a class catches up with the changes when its turn comes, at most once per node.
// With n nodes, r requests, p placements and c classes a plan costs
// O(c*n + r*log r + p*log n) where classes are few or take few turns, and a class
// that fits nowhere any more costs nothing further. A queue of 100,000 stages
// with eight different needs is planned in 0.1 to 0.4 s on up to 10,000 nodes;
// with 1,000 different needs on 10,000 nodes it takes 6 to 9 s, which is the case to
// improve should it ever be met.
package scheduler
