package peers

import (
	"fmt"
	"slices"
	"time"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

const (
	// At most four full batches are not acked, in bytes; small ones may be more.
	maxFlightBytes  = 4 * model.MaxBatchBytes
	maxFlightFrames = 256
	// A look into the log takes so much at a time.
	fillBytes  = model.MaxBatchBytes
	fillFrames = 64
	// Acks that only count missing blocks down are sent this often.
	ackPause = 500 * time.Millisecond
	// Changes of others are relayed after so long, or two round trips up to a
	// bound, if the peer has not said by then that it has them.
	holdMin = 30 * time.Millisecond
	holdMax = 250 * time.Millisecond
	// Heads a link remembers before it sums them up.
	maxKnownHeads = 256
	opsFrame      = 1 << 20
	// A folder without room for changes is offered them again after so long.
	fullPause = time.Minute
)

// A link is one folder on one session, from one opening on either side to its
// end. Fields below "writer" belong to the writer goroutine, the others to
// session.mu.
type link struct {
	r     *Remote
	at    *attachment
	epoch uint64 // names this opening; never 0

	theirs    theirs
	had       bool          // the peer had the folder when the link before ended, and has not said yet how it has it now
	opening   model.Opening // as the peer was told
	openings  uint64        // how often
	openedFor uint64        // of theirs, the epoch
	heard     uint64        // how often theirs was
	known     []trust.Hash  // membership ops the peer is known to have, with all before them
	want      bool          // ask the peer for membership ops
	tell      bool          // the peer asks for our state
	push      bool          // send membership ops though the peer has not told its own
	resend    bool          // known is new: compare again
	count     bool          // the folder has not been told yet what the peer has
	sentK     model.VV      // what the peer has or was sent
	received  uint64        // batches taken in
	flight    []int         // sizes of batches sent and not acked
	sent      uint64        // batches sent
	acked     uint64        // batches the peer has taken in
	reset     bool          // the peer opened the folder anew: the queue is void
	missed    bool          // batches came before it was decided that the link carries any
	full      bool          // the folder had no room: what comes is dropped until the link is opened anew

	meeting meeting

	// writer
	told    bool   // our state was sent
	opsSent uint64 // version of the log when the peer was last sent all of it
	ack     ackState
	queue   []model.Batch // taken from the folder, not sent yet
	queueK  model.VV      // if not nil: all up to here is sent when the queue is
	queueIn model.VV      // what was known here when the queue was taken
	over    model.VV      // of what came over gaps, up to where the peer was sent it
	shown   model.VV      // of what the peer was sent a header that proves it
	hold    hold
	caught  model.VV // of the last CatchUp
	caughts bool     // one was sent
}

// A hold keeps what came from others for a moment: the peer may be about to say
// that it has it too.
type hold struct {
	k     model.VV
	until time.Time // zero: not holding
}

// theirs is a folder as the peer has it.
type theirs struct {
	here    bool
	epoch   uint64
	opening model.Opening
	heads   []trust.Hash // membership ops it told of that were not seen here yet
	k       model.VV
	missing uint64
	mode    Mode
}

type ackState struct {
	k, has   model.VV
	missing  uint64
	received uint64
	at       time.Time
}

// linkTo returns the link of r, new if the folder was attached anew; nil if it
// is not, or if the peer is no member. was is the link of an attachment before.
func (s *session) linkTo(r *Remote) (l, was *link) {
	if !r.log().Allowed(s.pub) {
		return nil, nil
	}
	at, _, release := r.acquire(s.ctx)
	if at == nil {
		return nil, nil
	}
	defer release()
	s.mu.Lock()
	defer s.mu.Unlock()
	l = s.links[r.id]
	if l == nil || l.at != at {
		was = l
		s.epochs++
		l = &link{r: r, at: at, epoch: s.epochs, had: was != nil && (was.theirs.here || was.had)}
		s.links[r.id] = l
	}
	return l, was
}

// updateLinks makes the links those of the attached folders the peer is a
// member of, and closes the others.
func (s *session) updateLinks() ([]*link, error) {
	want := map[trust.FolderID]bool{}
	var open, shut []*link
	for _, r := range s.n.attached() {
		l, was := s.linkTo(r)
		if l != nil {
			want[r.id] = true
			open = append(open, l)
		}
		if was != nil {
			shut = append(shut, was)
		}
	}
	s.mu.Lock()
	for id, l := range s.links {
		if !want[id] {
			delete(s.links, id)
			shut = append(shut, l)
		}
	}
	shut = append(shut, s.shutting...)
	s.shutting = nil
	s.mu.Unlock()
	for _, l := range shut {
		if !l.told {
			continue
		}
		if err := s.sendOps(l); err != nil { // so that it learns that it is out
			return nil, err
		}
		if err := s.send(&wire.FolderState{Folder: l.r.id[:], Gone: true}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(open, func(a, b *link) int { return slices.Compare(a.r.id[:], b.r.id[:]) })
	return open, nil
}

// shut hands a link that is over to the writer.
func (s *session) shut(l *link) {
	s.mu.Lock()
	s.shutting = append(s.shutting, l)
	s.mu.Unlock()
	s.wake()
}

// sendState tells the peer how this device has the folder: once, and when it
// asks.
func (s *session) sendState(l *link) error {
	s.mu.Lock()
	tell, ask := l.tell, s.listed && !l.theirs.here
	l.tell = false
	s.mu.Unlock()
	if l.told && !tell {
		return nil
	}
	at, _, release := l.r.acquire(s.ctx)
	if at == nil {
		return nil
	}
	opening, err := s.openFor(l, at)
	k, missing := at.Folder.Knowledge(), l.r.missingBlocks(at)
	mode := at.Mode
	release()
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	log := l.r.log()
	l.told = true
	l.ack = ackState{k: k, has: k, missing: missing, received: l.ack.received, at: time.Now()}
	return s.send(&wire.FolderState{
		Folder: l.r.id[:], Heads: hashBytes(log.Heads()), Knowledge: k.Encode(), Role: uint32(log.Role(s.n.pub)),
		Mode: uint32(mode), Missing: missing, Ask: ask, Epoch: l.epoch,
		Opening: openingMessage(opening),
	})
}

// openFor returns the opening that the peer is told: a new one, or the last with
// what it needs to see that histories part.
func (s *session) openFor(l *link, at *attachment) (model.Opening, error) {
	s.mu.Lock()
	o, again := l.opening, l.openedFor == l.theirs.epoch && l.openings > 0
	of := l.theirs.epoch
	s.mu.Unlock()
	if !again {
		var err error
		if o, err = at.Folder.Opening(); err != nil {
			return o, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.opening, l.openedFor = o, of
	l.openings++
	return o, nil
}

// sendOps sends membership ops the peer lacks, and asks for those we lack.
func (s *session) sendOps(l *link) error {
	log := l.r.log()
	s.mu.Lock()
	want, known := l.want, l.known
	ready := l.theirs.here && l.acquainted(log) || l.push
	resend := l.resend
	l.want, l.resend = false, l.resend && !ready
	s.mu.Unlock()
	if want {
		if err := s.send(&wire.MemberWant{Folder: l.r.id[:], Heads: hashBytes(log.Heads())}); err != nil {
			return err
		}
	}
	version := log.Version()
	if !ready || version == l.opsSent && !resend {
		return nil // first the ops that it knows and we do not; or nothing new
	}
	heads := log.Heads()
	for part := range opsFrames(log.Since(known)) {
		if err := s.send(&wire.MemberOps{Folder: l.r.id[:], Ops: part}); err != nil {
			return err
		}
	}
	l.opsSent = version
	s.mu.Lock()
	l.push = false
	l.known = append(heads, l.theirs.heads...)
	s.mu.Unlock()
	return nil
}

// acquainted tells whether all that the peer told of its membership was seen here.
// What was seen once counts: if it is of no use, it may be let go of. s.mu is held.
func (l *link) acquainted(log *trust.Log) bool {
	l.theirs.heads = slices.DeleteFunc(l.theirs.heads, func(h trust.Hash) bool { return log.Knows([]trust.Hash{h}) })
	return len(l.theirs.heads) == 0
}

// opsFrames cuts ops into frames.
func opsFrames(ops [][]byte) func(yield func([][]byte) bool) {
	return func(yield func([][]byte) bool) {
		for len(ops) > 0 {
			size, n := 0, 0
			for n < len(ops) && n < wire.MaxMembers && (n == 0 || size+len(ops[n]) <= opsFrame) {
				size += len(ops[n])
				n++
			}
			if !yield(ops[:n]) {
				return
			}
			ops = ops[n:]
		}
	}
}

// countAck tells the folder what the peer has: once all membership that the peer
// named is here, since it may have taken in others by then whom that binds, and
// once the two have met: the same numbers may stand for other changes.
func (s *session) countAck(l *link) {
	log := l.r.log()
	s.mu.Lock()
	m := l.meeting
	due := l.count && l.theirs.here && m.ok && m.told == l.openings && m.of == l.heard && l.acquainted(log)
	k, missing := l.theirs.k, l.theirs.missing
	l.count = l.count && !due
	s.mu.Unlock()
	if !due {
		return
	}
	if at, _, release := l.r.acquire(s.ctx); at != nil {
		at.Folder.Acked(s.p.String(), k, missing)
		release()
	}
}

// sendAck tells the peer what was taken in and what is durable, if that is
// news: after the membership that is known here, by which it counts.
func (s *session) sendAck(l *link) error {
	at, _, release := l.r.acquire(s.ctx)
	if at == nil {
		return nil
	}
	k, missing := at.Folder.Knowledge(), l.r.missingBlocks(at)
	has := at.Folder.Known()
	release()
	s.mu.Lock()
	received, of := l.received, l.theirs.epoch
	s.mu.Unlock()
	counted := missing != l.ack.missing && (missing == 0 || l.ack.missing == 0 || time.Since(l.ack.at) >= ackPause)
	if !l.told || l.opsSent != l.r.log().Version() || received == l.ack.received && k.Equal(l.ack.k) && has.Equal(l.ack.has) && !counted {
		return nil
	}
	l.ack = ackState{k, has, missing, received, time.Now()}
	m := &wire.Ack{Folder: l.r.id[:], Knowledge: k.Encode(), Missing: missing, Received: received, Epoch: l.epoch, Of: of}
	if !has.Equal(k) {
		m.Has = has.Encode()
	}
	return s.send(m)
}

// ready tells whether batches may go to the peer, and what it has: both sides
// must know each other's members first, or honest changes would be refused, and
// how each has the folder, or they are dropped.
func (s *session) ready(l *link) (sentK model.VV, ok bool) {
	log := l.r.log()
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.reset {
		l.reset, l.queue, l.queueK, l.caughts, l.shown, l.over = false, nil, nil, false, nil, nil
	}
	if !l.told || l.tell || !l.theirs.here || !l.acquainted(log) || l.opsSent != log.Version() || log.Role(s.pub) < trust.Reader {
		return nil, false
	}
	size := 0
	for _, n := range l.flight {
		size += n
	}
	return l.sentK, size < maxFlightBytes && len(l.flight) < maxFlightFrames
}

// sendBatches sends one batch, or says that all is sent. more says that there
// may be more to do at once.
func (s *session) sendBatches(l *link) (more bool, err error) {
	if ok, err := s.meet(l); !ok || err != nil {
		return false, err
	}
	sentK, ok := s.ready(l)
	if !ok {
		return false, nil
	}
	if len(l.queue) == 0 {
		k, ok, err := s.fill(l, sentK)
		if err != nil || !ok {
			return false, err
		}
		if len(l.queue) == 0 {
			return false, s.sendCatchUp(l, k)
		}
	}
	b := l.queue[0]
	h, err := model.DecodeHeader(b.Header)
	if err != nil {
		return false, fmt.Errorf("own log: %w", err)
	}
	s.mu.Lock()
	if l.reset {
		s.mu.Unlock()
		return true, nil
	}
	epoch := l.theirs.epoch
	l.queue = l.queue[1:]
	l.flight = append(l.flight, len(b.Header)+len(b.Body))
	l.sent++
	switch d := (model.Dot{Replica: h.Replica, Seq: h.Hi}); {
	case len(b.Body) == 0:
	case l.queueIn.Has(d) || l.sentK.Get(h.Replica) >= h.Lo-1:
		l.sentK = l.sentK.With(d)
	default: // what is missing before it may be late, not dead: then it is sent, and this again
		l.over = l.over.With(d)
	}
	s.mu.Unlock()
	if err := s.send(&wire.Batch{Folder: l.r.id[:], Header: b.Header, Body: b.Body, Epoch: epoch}); err != nil {
		return false, err
	}
	if k := l.queueK; len(l.queue) == 0 && k != nil {
		l.queueK = nil
		return true, s.sendCatchUp(l, k)
	}
	return true, nil
}

// fill takes the next batches from the folder into the queue. When it took all
// there are, queueK says up to where.
func (s *session) fill(l *link, sentK model.VV) (k model.VV, ok bool, err error) {
	at, ctx, release := l.r.acquire(s.ctx)
	if at == nil {
		return nil, false, nil
	}
	defer release()
	k = at.Folder.Knowledge()
	if k.LE(sentK) {
		return k, true, nil
	}
	if s.holds(l, at, k, sentK) {
		return nil, false, nil
	}
	l.queueIn = k
	size, frames := 0, 0
	for b, err := range at.Folder.Since(ctx, sentK, l.over) {
		if err != nil {
			l.queue = nil
			if ctx.Err() != nil {
				return nil, false, nil // the folder is being taken away
			}
			return nil, false, fmt.Errorf("own log: %w", err)
		}
		if len(b.Body) == 0 { // not enough by itself: what it proves must follow
			h, err := model.DecodeHeader(b.Header)
			if err != nil {
				return nil, false, fmt.Errorf("own log: %w", err)
			}
			if d := (model.Dot{Replica: h.Replica, Seq: h.Hi}); !l.shown.Has(d) {
				l.shown = l.shown.With(d)
				l.queue = append(l.queue, b)
				size += len(b.Header)
			}
			continue
		}
		l.queue = append(l.queue, b)
		frames++
		size += len(b.Header) + len(b.Body)
		if size >= fillBytes || frames >= fillFrames {
			return k, true, nil
		}
	}
	if ctx.Err() != nil {
		l.queue = nil
		return nil, false, nil
	}
	if len(l.queue) > 0 {
		l.queueK = k
	}
	return k, true, nil
}

// holds tells whether to wait before relaying: an author sends its changes to
// all it sees itself, and whoever has them says so.
func (s *session) holds(l *link, at *attachment, k, sentK model.VV) bool {
	if !at.onlyHeard(k, sentK) {
		l.hold = hold{}
		return false
	}
	now := time.Now()
	switch {
	case l.hold.until.IsZero(), l.hold.k.LE(sentK): // the peer got it elsewhere; now about what came since
		s.mu.Lock()
		rtt := s.rtt
		s.mu.Unlock()
		l.hold = hold{k, now.Add(max(s.n.hold, min(2*rtt, holdMax)))}
	case !now.Before(l.hold.until):
		l.hold = hold{}
		return false
	}
	if s.alarm.IsZero() || l.hold.until.Before(s.alarm) {
		s.alarm = l.hold.until
	}
	return true
}

// sendCatchUp says that all up to k is sent, if that is news.
func (s *session) sendCatchUp(l *link, k model.VV) error {
	s.mu.Lock()
	void, epoch := l.reset, l.theirs.epoch
	if !void {
		l.sentK = l.sentK.Join(k)
	}
	s.mu.Unlock()
	if void {
		return nil
	}
	if l.caughts && k.LE(l.caught) {
		return nil
	}
	l.caught, l.caughts = k, true
	return s.send(&wire.CatchUp{Folder: l.r.id[:], Knowledge: k.Encode(), Epoch: epoch})
}

// has tells whether the peer has the folder.
func (s *session) has(r *Remote) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[r.id]
	return l != nil && l.theirs.here
}

func hashBytes(hashes []trust.Hash) [][]byte {
	out := make([][]byte, 0, min(len(hashes), wire.MaxHeads))
	for _, h := range hashes[:min(len(hashes), wire.MaxHeads)] {
		out = append(out, h[:])
	}
	return out
}

func parseHashes(list [][]byte) []trust.Hash {
	out := make([]trust.Hash, 0, len(list))
	for _, b := range list {
		out = append(out, trust.Hash(b))
	}
	return out
}
