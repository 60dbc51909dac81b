// Package rest is the HTTP surface of the control plane: the routes under /v1
// with their OpenAPI description, problem documents, event streams, health and
// metrics, and the hop to the leader.
//
// It checks what comes in and puts together what goes out, and decides nothing:
// state decides what is legal, dispatch what runs where, auth who may call.
package rest
