package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// Client asks one daemon.
type Client struct {
	http *http.Client
	path string
}

// Dial finds the first of the sockets that a daemon answers at.
func Dial(ctx context.Context, sockets []string) (*Client, error) {
	for _, path := range sockets {
		c, err := connect(ctx, path, len(sockets) == 1)
		if err == nil {
			c.Close()
			return newClient(path, len(sockets) == 1), nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var denied *Error
		switch {
		case errors.As(err, &denied):
			return nil, err
		case errors.Is(err, syscall.EACCES) && len(sockets) == 1:
			return nil, Errorf(Denied, "%s: permission denied", path)
		}
	}
	return nil, &Error{Code: NoDaemon, Message: noDaemon}
}

func newClient(path string, named bool) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx, path, named) },
	}
	return &Client{http: &http.Client{Transport: t}, path: path}
}

// Socket is the path of the socket of the daemon.
func (c *Client) Socket() string { return c.path }

// Call asks the daemon for op. An error the daemon reports is an [Error].
func (o Op[In, Out]) Call(ctx context.Context, c *Client, in In) (out Out, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("%s: %w", o.name, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://clachan"+o.path(), bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("%s: %w", o.name, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return out, gone(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return out, gone(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		e := new(Error)
		if err := json.Unmarshal(answer, e); err != nil || e.Message == "" {
			return out, fmt.Errorf("%s: the daemon answered %s", o.name, resp.Status)
		}
		return out, e
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("%s: answer of the daemon: %w", o.name, err)
	}
	return out, nil
}

// gone says why there was no answer: the caller gave up, the daemon refused
// this user, is not there, or stopped while it was asked.
func gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return &Error{Code: NoDaemon, Message: noDaemon}
	}
	return Errorf(NoDaemon, "the daemon stopped before it answered: %v", err)
}
