package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of an Event.
const (
	EventAdded        = "folder-added"   // made or joined
	EventMounted      = "folder-mounted" // or, if it is plain, kept the same as its directory
	EventUnmounted    = "folder-unmounted"
	EventLeft         = "folder-left"
	EventError        = "folder-error" // text says what
	EventRecovered    = "folder-recovered"
	EventJoined       = "member-joined"
	EventGone         = "member-left"
	EventConnected    = "connected"
	EventDisconnected = "disconnected"
	EventChanged      = "changed" // here
	EventArrived      = "arrived" // from a member
	EventRemoved      = "removed"
	EventRenamed      = "renamed"
	EventConflict     = "conflict"      // a conflict copy was made
	EventResolved     = "resolved"      // a conflict copy is gone
	EventSyncBegun    = "sync-begun"    // bytes are missing here, for a second by now
	EventSyncFinished = "sync-finished" // none are
	EventOnlyHere     = "only-here"     // files are here only, for a second by now
	EventHeld         = "held"          // nothing is only here any more
	EventGap          = "gap"           // events were lost: as many as count, if that is known
)

// Event is one thing that happened.
type Event struct {
	Schema int       `json:"schema"`
	ID     uint64    `json:"id"` // increases, also from one start of the daemon to the next
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`
	Folder string    `json:"folder,omitempty"`  // its name
	Peer   string    `json:"peer,omitempty"`    // the name of the member
	PeerID string    `json:"peer_id,omitempty"` //
	Path   string    `json:"path,omitempty"`    // in the folder
	From   string    `json:"from,omitempty"`    // of what was renamed: where it was
	Dir    bool      `json:"dir,omitempty"`     // it is a directory
	Author string    `json:"author,omitempty"`  // who did it
	Device string    `json:"device,omitempty"`  // and on which device
	Count  uint64    `json:"count,omitempty"`   // of a gap
	Text   string    `json:"text,omitempty"`
}

// A Ring remembers the last events. Who adds never waits for who reads.
type Ring struct {
	first   uint64
	max     int
	readers atomic.Int64

	mu     sync.Mutex // guards what follows
	events []Event    // the oldest first
	next   uint64
	last   time.Time     // when the last was added or lost
	more   chan struct{} // closed when there is more
}

// NewRing makes a ring of at most max events. Their ids grow from first on, which no
// daemon before this one came to.
func NewRing(max int, first uint64) *Ring {
	return &Ring{first: first, max: max, next: first, more: make(chan struct{})}
}

// Add appends events, and gives them their ids.
func (r *Ring) Add(at time.Time, events ...Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		e.Schema, e.ID, e.At = Schema, r.next, at.UTC()
		r.events = append(r.events, e)
		r.next++
	}
	if over := len(r.events) - r.max; over > 0 {
		r.events = append(r.events[:0], r.events[over:]...)
	}
	r.wake(at)
}

// Lose counts events that nobody had the time to look at: who reads sees a gap.
func (r *Ring) Lose(at time.Time, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next += n
	r.wake(at)
}

func (r *Ring) wake(at time.Time) {
	r.last = at.UTC()
	close(r.more)
	r.more = make(chan struct{})
}

// Read tells whether somebody reads what is added.
func (r *Ring) Read() bool { return r.readers.Load() > 0 }

// Last is the id of the newest event.
func (r *Ring) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}

// After returns the events after id, 0 for all, gaps among them; more is closed when
// there are further ones.
func (r *Ring) After(id uint64) (events []Event, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gap := func(to uint64, at time.Time, count uint64) {
		events = append(events, Event{Schema: Schema, ID: to, At: at, Kind: EventGap, Count: count})
	}
	if id != 0 && (id < r.first-1 || id >= r.next) { // of another daemon: nobody knows how many
		gap(r.first-1, time.Now().UTC(), 0)
	}
	if id < r.first-1 || id >= r.next {
		id = r.first - 1
	}
	for _, e := range r.events {
		if e.ID <= id {
			continue
		}
		if e.ID > id+1 {
			gap(e.ID-1, e.At, e.ID-1-id)
		}
		events, id = append(events, e), e.ID
	}
	if id+1 < r.next {
		gap(r.next-1, r.last, r.next-1-id)
	}
	return events, r.more
}

const (
	heartbeat  = 15 * time.Second // between lines of a stream on which nothing happens
	writeLimit = 30 * time.Second // for a reader that does not read
)

// eventsPath is where events stream, as server-sent events: their ids come back in
// Last-Event-ID, or in since.
const eventsPath = "/v1/events"

// HandleEvents streams what r is told.
func (s *Server) HandleEvents(r *Ring) {
	s.mux.HandleFunc("GET "+eventsPath, func(w http.ResponseWriter, req *http.Request) {
		since := r.Last()
		text := req.Header.Get("Last-Event-ID")
		if text == "" {
			text = req.URL.Query().Get("since")
		}
		if text != "" {
			var err error
			if since, err = strconv.ParseUint(text, 10, 64); err != nil {
				s.fail(w, Errorf(Usage, "events: %q is no id of an event", text))
				return
			}
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		if err := stream(req.Context(), w, r, since); err != nil {
			s.log.Debug("events end", "err", err)
		}
	})
}

// stream writes events until ctx ends or nobody reads.
func stream(ctx context.Context, w http.ResponseWriter, r *Ring, since uint64) error {
	r.readers.Add(1)
	defer r.readers.Add(-1)
	out := http.NewResponseController(w)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	text := fmt.Appendf(nil, "retry: 2000\nid: %d\n\n", since) // who is cut off before the first event knows where it was
	for {
		events, more := r.After(since)
		for _, e := range events {
			data, err := json.Marshal(e)
			if err != nil {
				return err
			}
			text = fmt.Appendf(text, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, data)
			since = e.ID
		}
		if err := out.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		text = text[:0]
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-beat.C:
			text = append(text, ":\n\n"...)
		}
	}
}

// again is how long a reader waits before it asks a daemon anew that ended a stream.
const again = 100 * time.Millisecond

// Events calls fn with what happens, from after the event since on if it is given, until
// ctx ends, fn fails or the daemon stops. A reader that is cut off, since it did not read
// for long, goes on where it was: what is lost by then is a gap. Begun, if not nil, is
// called when it listens.
func (c *Client) Events(ctx context.Context, since *uint64, begun func(), fn func(Event) error) error {
	s := subscription{client: c, since: since, begun: begun, fn: fn}
	for {
		heard := s.lines
		err := s.read(ctx)
		if !errors.Is(err, errCut) {
			if e, ok := errors.AsType[*Error](err); ok && e.Code == NoDaemon && s.lines > 0 {
				return Errorf(NoDaemon, "the daemon has stopped")
			}
			return err
		}
		if s.lines == heard {
			return Errorf(NoDaemon, "the daemon stopped before it answered")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again):
		}
	}
}

// errCut tells that a stream has ended that should not.
var errCut = errors.New("the stream was cut off")

// A subscription reads events over as many streams as that takes.
type subscription struct {
	client *Client
	since  *uint64 // the last event that was told of; nil: nobody knows yet
	begun  func()  // nil once it was called
	fn     func(Event) error
	lines  int // that came
}

// read reads one stream to its end.
func (s *subscription) read(ctx context.Context) error {
	limit := 3 * heartbeat
	asked := ctx
	ctx, w := watch(ctx, limit)
	defer w.end()
	url := "http://clachan" + eventsPath
	if s.since != nil {
		url += "?since=" + strconv.FormatUint(*s.since, 10)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	why := func(err error) error {
		if asked.Err() == nil && w.late() {
			return s.client.late(limit)
		}
		return err
	}
	resp, err := s.client.http.Do(req)
	if err != nil {
		return why(gone(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failure("events", resp.Status, io.LimitReader(resp.Body, maxBody))
	}
	if s.begun != nil {
		s.begun()
		s.begun = nil
	}
	if err := s.take(w, resp.Body); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return why(err)
	}
	return errCut
}

// take tells of the events of a stream until it ends. What an empty line does not end is
// not whole.
func (s *subscription) take(w *watchdog, body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxRequest)
	var id, data string
	for lines.Scan() {
		s.lines++
		w.heard()
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "id: "):
			id = line[len("id: "):]
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
		case line == "":
			if n, err := strconv.ParseUint(id, 10, 64); err == nil {
				s.since = &n
			}
			if err := s.tell(w, data); err != nil {
				return err
			}
			id, data = "", ""
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("events: %w", lines.Err())
	}
	return nil
}

// tell hands one event over. However long that takes, the daemon is not to blame.
func (s *subscription) tell(w *watchdog, data string) error {
	if data == "" {
		return nil
	}
	var e Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	w.rest()
	defer w.heard()
	return s.fn(e)
}
