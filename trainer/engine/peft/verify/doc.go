// Package verify runs an installed engine peft on every device that its torch sees:
// 20 steps beside native, whose losses must agree, for each precision of the frozen
// base, and the speed and memory of a model of real size.
//
// It is for people with a card, who get with one command what can be known of it. It
// needs no mesh and no network, and does not know how an engine is installed.
package verify
