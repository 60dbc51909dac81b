// Package inferencepb is the inference service's gRPC API, made from
// inference.proto.
package inferencepb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative inference.proto
