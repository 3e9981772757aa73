package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kinds writes events as their kinds and counts.
func kinds(events []Event) (out []string) {
	for _, e := range events {
		s := e.Kind + e.Path
		if e.Count > 0 {
			s += string(rune('0' + e.Count))
		}
		out = append(out, s)
	}
	return out
}

func TestARingTellsWhatItStillHasAndThatMoreIsLost(t *testing.T) {
	r := NewRing(3, 100)
	for _, p := range []string{"a", "b", "c", "d", "e"} {
		r.Add(time.Now(), Event{Kind: "x", Path: p})
	}
	r.Lose(time.Now(), 2)
	r.Add(time.Now(), Event{Kind: "x", Path: "f"})
	tests := []struct {
		after uint64
		want  []string
	}{
		{0, []string{"gap3", "xd", "xe", "gap2", "xf"}},
		{99, []string{"gap3", "xd", "xe", "gap2", "xf"}},
		{101, []string{"gap1", "xd", "xe", "gap2", "xf"}},
		{103, []string{"xe", "gap2", "xf"}},
		{107, nil},
		{7, []string{"gap", "gap3", "xd", "xe", "gap2", "xf"}},
		{5000, []string{"gap", "gap3", "xd", "xe", "gap2", "xf"}},
	}
	for _, tt := range tests {
		got, _ := r.After(tt.after)
		if !slices.Equal(kinds(got), tt.want) {
			t.Errorf("after %d: %q, want %q", tt.after, kinds(got), tt.want)
		}
		if n := len(got); n > 0 {
			if again, _ := r.After(got[n-1].ID); again != nil {
				t.Errorf("after %d and all that follows: %q comes again", tt.after, kinds(again))
			}
		}
	}
	r.Lose(time.Now(), 1)
	if got, _ := r.After(107); !slices.Equal(kinds(got), []string{"gap1"}) {
		t.Errorf("what is lost last: %q", kinds(got))
	}
}

// serveAt has s answer at a socket until the test ends.
func serveAt(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := Dial(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEventsStreamFromWhereTheReaderWas(t *testing.T) {
	r := NewRing(10, 100)
	s := NewServer(func(error) Code { return Other }, slog.New(slog.DiscardHandler))
	s.HandleEvents(r)
	c := serveAt(t, s)
	r.Add(time.Now(), Event{Kind: "x", Path: "before"})
	end := errors.New("enough")
	since := uint64(100)
	for _, tt := range []struct {
		since *uint64
		want  []string
	}{{nil, []string{"xnew"}}, {&since, []string{"xnew", "xnew"}}} {
		var got []Event
		err := c.Events(t.Context(), tt.since, func() { r.Add(time.Now(), Event{Kind: "x", Path: "new"}) }, func(e Event) error {
			if got = append(got, e); len(got) == len(tt.want) {
				return end
			}
			return nil
		})
		if !errors.Is(err, end) || !slices.Equal(kinds(got), tt.want) || got[0].Schema != Schema {
			t.Errorf("%v: %q, %v; want %q", tt.since, kinds(got), err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Events(ctx, nil, cancel, func(Event) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the reader ends it: %v", err)
	}
}

// A reader that does not read costs nobody anything: it finds a gap.
func TestASlowReaderHoldsNothingUp(t *testing.T) {
	r := NewRing(4, 100)
	s := NewServer(func(error) Code { return Other }, slog.New(slog.DiscardHandler))
	s.HandleEvents(r)
	c := serveAt(t, s)
	end := errors.New("enough")
	first, lost := true, uint64(0)
	err := c.Events(t.Context(), nil, func() { r.Add(time.Now(), Event{Kind: "x"}) }, func(e Event) error {
		if first { // as it reads, the others go on, with more than all buffers hold
			first = false
			text := string(make([]byte, 1<<10))
			for range 10_000 {
				r.Add(time.Now(), Event{Kind: "x", Text: text})
			}
		}
		if e.Kind == EventGap {
			lost = e.Count
		}
		if e.ID == r.Last() {
			return end
		}
		return nil
	})
	if !errors.Is(err, end) || lost == 0 {
		t.Errorf("%v, %d lost", err, lost)
	}
}

func TestADaemonThatHangsIsNotWaitedForForever(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it never accepts
	c, err := Dial(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	_, err = GetStatus.CallWithin(t.Context(), c, 50*time.Millisecond, StatusRequest{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != Timeout {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := GetStatus.CallWithin(ctx, c, time.Minute, StatusRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up is told so: %v", err)
	}
}

// A reader that is cut off in the middle of a line goes on after the last whole event.
func TestAReaderThatIsCutOffGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	event := func(id int) string {
		return fmt.Sprintf("id: %d\nevent: x\ndata: {\"schema\":1,\"id\":%d,\"kind\":\"x\"}\n\n", id, id)
	}
	streams := []struct{ want, answer string }{
		{"/v1/events ", "retry: 2000\nid: 6\n\n" + event(7)[:20]},
		{"/v1/events?since=6 ", "retry: 2000\nid: 6\n\n" + event(7) + event(8)[:len(event(8))-1]},
		{"/v1/events?since=7 ", ":\n\n" + event(8)},
	}
	asked := make(chan string, len(streams))
	go func() {
		defer l.Close()
		for i := 0; i < len(streams); {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			req, err := bufio.NewReader(conn).ReadString('\n')
			if err == nil { // Dial only looks whether somebody is there
				asked <- req
				fmt.Fprint(conn, head+streams[i].answer)
				i++
			}
			conn.Close()
		}
	}()
	c, err := Dial(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	err = c.Events(t.Context(), nil, nil, func(e Event) error {
		got = append(got, e.ID)
		return nil
	})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != NoDaemon {
		t.Errorf("when the daemon is gone: %v", err)
	}
	if !slices.Equal(got, []uint64{7, 8}) {
		t.Errorf("events %v", got)
	}
	for _, s := range streams {
		if req := <-asked; !strings.Contains(req, s.want) {
			t.Errorf("asked %q, want %q", req, s.want)
		}
	}
}

func TestAWatchdogBarksAfterSilenceOnly(t *testing.T) {
	ctx, w := watch(t.Context(), 20*time.Millisecond)
	defer w.end()
	w.rest()
	other, loud := watch(t.Context(), 20*time.Millisecond)
	defer loud.end()
	<-other.Done() // as long as that one is silent for
	if ctx.Err() != nil || w.late() || !loud.late() {
		t.Errorf("one at rest: %v", ctx.Err())
	}
	w.heard()
	<-ctx.Done()
	if !w.late() {
		t.Error("it ended and is not late")
	}
}
