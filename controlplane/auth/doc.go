// Package auth knows who calls and what they may do: bearer tokens of which
// only a hash is kept, roles, and a guard in front of the routes that refuses
// what no rule allows.
//
// It knows HTTP headers and roles, and nothing of what a route does. Tokens are
// looked up through an interface; it keeps none.
package auth
