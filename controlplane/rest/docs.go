package rest

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
)

// page is the human page of the API. It needs nothing but this server, so that
// it works in a network without the Internet.
//
//go:embed page
var page embed.FS

const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// plainRoutes registers what the description does not list.
func (s *Server) plainRoutes() error {
	description, err := s.api.OpenAPI().MarshalJSON()
	if err != nil {
		return fmt.Errorf("rest: describe the API: %w", err)
	}
	s.public("/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(description)
	})
	files := map[string][2]string{"/docs": {"docs.html", "text/html; charset=utf-8"}, "/docs/docs.js": {"docs.js", "text/javascript; charset=utf-8"}, "/docs/docs.css": {"docs.css", "text/css; charset=utf-8"}}
	for path, file := range files {
		data, err := fs.ReadFile(page, "page/"+file[0])
		if err != nil {
			return fmt.Errorf("rest: docs page: %w", err)
		}
		s.public(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", file[1])
			w.Header().Set("Content-Security-Policy", pagePolicy)
			_, _ = w.Write(data)
		})
	}
	metrics := promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{Registry: s.Registry})
	need := api.RoleMetrics // the series name jobs
	if s.PublicMetrics {
		need = auth.Public
	}
	s.plain("/metrics", need, func(w http.ResponseWriter, r *http.Request) {
		s.metrics.prune()
		metrics.ServeHTTP(w, r)
	})
	return nil
}

func (s *Server) public(path string, handle http.HandlerFunc) { s.plain(path, auth.Public, handle) }

func (s *Server) plain(path string, need api.Role, handle http.HandlerFunc) {
	s.rules["GET "+path] = need
	s.mux.HandleFunc("GET "+path, handle)
}
