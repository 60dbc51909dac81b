// Package tracing is the one door to OpenTelemetry: spans, and the W3C trace
// context that carries them from a submit over Raft, agent and stage contract
// to the artifact. It is off, and costs next to nothing, unless the standard
// variables OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
// name a collector.
//
// It must not know what the spans are about.
package tracing
