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
	"time"
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
		return out, failure(o.name, resp.Status, bytes.NewReader(answer))
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("%s: answer of the daemon: %w", o.name, err)
	}
	return out, nil
}

// CallWithin is Call for what a daemon answers at once: it is stuck if it has not after limit.
func (o Op[In, Out]) CallWithin(ctx context.Context, c *Client, limit time.Duration, in In) (Out, error) {
	short, w := watch(ctx, limit)
	defer w.end()
	out, err := o.Call(short, c, in)
	if err != nil && ctx.Err() == nil && w.late() {
		return out, c.late(limit)
	}
	return out, err
}

// late says that the daemon is there and does not answer.
func (c *Client) late(limit time.Duration) error {
	return Errorf(Timeout, "the daemon at %s has not answered for %v: it may be stuck or stopped (wait longer with --timeout, or start it anew)", c.path, limit)
}

// failure is the error that an answer tells of.
func failure(op, status string, body io.Reader) error {
	answer, err := io.ReadAll(body)
	e := new(Error)
	if err != nil || json.Unmarshal(answer, e) != nil || e.Message == "" {
		return fmt.Errorf("%s: the daemon answered %s", op, status)
	}
	return e
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
