package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
)

// Show lets h answer GET of path: what is no operation, but for tools to read.
func (s *Server) Show(path string, h http.Handler) { s.mux.Handle("GET "+path, h) }

// showProfiles is package pprof, but for the command line of the process, which
// may hold a ticket.
func (s *Server) showProfiles() {
	s.Show("/debug/pprof/", http.HandlerFunc(pprof.Index))
	s.Show("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	s.Show("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	s.Show("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
}

// Read gets what the daemon shows at path, such as /metrics.
func (c *Client) Read(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://clachan"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, gone(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: the daemon answered %s", path, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, gone(ctx, err)
	}
	return body, nil
}
