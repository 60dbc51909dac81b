package tracing

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// EnvParent is the variable in which a process finds the span that it belongs
// under, in the form of the W3C header of that name
// (opentelemetry.io/docs/specs/otel/context/env-carriers).
const EnvParent = "TRACEPARENT"

const header = "traceparent"

// w3c is the format of the context: w3.org/TR/trace-context.
var w3c = propagation.TraceContext{}

// Enabled says whether the environment names a collector.
func Enabled() bool {
	return os.Getenv("OTEL_SDK_DISABLED") != "true" &&
		(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// Start has spans exported until stop is called, which sends what is left; if
// tracing is not enabled it does nothing. service and version name the process;
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES add to them. The protocol is
// http/protobuf, or grpc if OTEL_EXPORTER_OTLP_PROTOCOL says so.
//
// The provider is the process's: a span is begun deep in code that nothing
// else is handed down to.
func Start(ctx context.Context, service, version string) (stop func(context.Context) error, err error) {
	if !Enabled() {
		return func(context.Context) error { return nil }, nil
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithFromEnv(), resource.WithProcessPID(), resource.WithHost())
	if err != nil {
		return nil, fmt.Errorf("tracing: describe this process: %w", err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	otel.SetTracerProvider(provider)
	return provider.Shutdown, nil
}

func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: want http/protobuf or grpc", protocol)
}

// Span is a piece of work that is being timed.
type Span struct{ span api.Span }

// Begin starts a span under that of ctx. attributes are pairs of key and value.
func Begin(ctx context.Context, name string, attributes ...string) (context.Context, Span) {
	pairs := make([]attribute.KeyValue, 0, len(attributes)/2)
	for i := 0; i+1 < len(attributes); i += 2 {
		pairs = append(pairs, attribute.String(attributes[i], attributes[i+1]))
	}
	ctx, span := otel.Tracer("github.com/tunemesh/tunemesh").Start(ctx, name, api.WithAttributes(pairs...))
	return ctx, Span{span}
}

// End ends the span; with an error it is a failed one.
func (s Span) End(err error) {
	if err != nil {
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// Parent is ctx's span in the form of the traceparent header; empty without
// one.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier[header]
}

// Under puts ctx under the span that a traceparent header names. What is no
// such header changes nothing.
func Under(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return w3c.Extract(ctx, propagation.MapCarrier{header: parent})
}

// FromRequest puts a request's context under its caller's span.
func FromRequest(r *http.Request) context.Context {
	return Under(r.Context(), r.Header.Get(header))
}
