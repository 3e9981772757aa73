package peers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer/model"
)

// A Remote is the other members of one folder. It is syncer.Remote.
type Remote struct {
	n   *Node
	id  trust.FolderID
	due atomic.Bool // a kick is on its way

	mu      sync.Mutex // guards all below
	members *trust.Log // nil: this device is not in the folder
	at      *attachment
	flights map[blocks.ID]*flight
}

// An attachment is the time between AddFolder and RemoveFolder.
type attachment struct {
	Share
	ctx    context.Context // ends with RemoveFolder
	cancel context.CancelFunc
	calls  *sync.WaitGroup // calls into Folder and Store, of attachments before that it replaced too

	mu       sync.Mutex // guards all below
	heard    model.VV   // what came from others
	missing  uint64     // blocks, when last counted
	counted  time.Time
	cost     time.Duration // of counting
	counting bool
}

// hears notes that a batch comes from another, before it is taken in.
func (at *attachment) hears(h model.Header) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.heard = at.heard.With(model.Dot{Replica: h.Replica, Seq: h.Hi})
}

// onlyHeard tells whether all of k that is not in sent came from others.
func (at *attachment) onlyHeard(k, sent model.VV) bool {
	at.mu.Lock()
	defer at.mu.Unlock()
	return k.LE(sent.Join(at.heard))
}

// countShare bounds the share of time spent counting missing blocks: one in so
// many.
const countShare = 20

// missingBlocks returns how many blocks are missing. Counting may be dear, so
// the last count stands for a while; then sessions look again.
func (r *Remote) missingBlocks(at *attachment) uint64 {
	at.mu.Lock()
	wait := countShare*at.cost - time.Since(at.counted)
	if at.counting || !at.counted.IsZero() && wait > 0 {
		defer at.mu.Unlock()
		if !at.counting {
			r.kickIn(wait)
		}
		return at.missing
	}
	at.counting = true
	at.mu.Unlock()
	start := time.Now()
	n, _ := at.Folder.Missing()
	at.mu.Lock()
	defer at.mu.Unlock()
	at.missing, at.counted, at.cost, at.counting = uint64(max(n, 0)), time.Now(), time.Since(start), false
	return at.missing
}

// kickIn makes sessions look at the folder after a while.
func (r *Remote) kickIn(wait time.Duration) {
	if r.due.Swap(true) {
		return
	}
	later := func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		r.due.Store(false)
		r.kick()
	}
	if !r.n.spawn(later) {
		r.due.Store(false)
	}
}

func newRemote(n *Node, id trust.FolderID, l *trust.Log) *Remote {
	return &Remote{n: n, id: id, members: l, flights: map[blocks.ID]*flight{}}
}

// log returns the membership; an empty one if this device is not in it.
func (r *Remote) log() *trust.Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		return trust.Nobody
	}
	return r.members
}

func (r *Remote) isAttached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at != nil
}

// acquire returns the attachment for one call into it; release ends the call.
// The context ends with ctx and with the attachment.
func (r *Remote) acquire(ctx context.Context) (at *attachment, call context.Context, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		return nil, nil, nil
	}
	at = r.at
	at.calls.Add(1)
	call, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(at.ctx, cancel)
	return at, call, func() {
		stop()
		cancel()
		at.calls.Done()
	}
}

// attach begins an attachment; false if there is one.
func (r *Remote) attach(s Share) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.at = &attachment{Share: s, ctx: ctx, cancel: cancel, calls: new(sync.WaitGroup)}
	return true
}

// renew replaces an attachment: all links are opened anew.
func (r *Remote) renew(at *attachment) {
	r.mu.Lock()
	if r.at != at {
		r.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.at = &attachment{Share: at.Share, ctx: ctx, cancel: cancel, calls: at.calls}
	r.mu.Unlock()
	at.cancel()
	r.kick()
}

// detach ends the attachment and waits for the calls into it.
func (r *Remote) detach() {
	r.mu.Lock()
	at := r.at
	r.at = nil
	r.mu.Unlock()
	if at == nil {
		return
	}
	at.cancel()
	r.kick()
	at.calls.Wait()
}

// kick makes all sessions look at the folder.
func (r *Remote) kick() {
	for _, s := range r.n.sessions() {
		s.wake()
	}
}

// Announce tells members what is durable here, by way of Folder.Knowledge and
// Folder.Missing. It never blocks.
func (r *Remote) Announce(model.VV) { r.kick() }

// Online counts the members connected now.
func (r *Remote) Online() int { return len(r.Present()) }

// Present lists the members connected now, by their ids.
func (r *Remote) Present() (ids []string) {
	for _, s := range r.n.sessions() {
		if s.has(r) {
			ids = append(ids, s.p.String())
		}
	}
	return ids
}
