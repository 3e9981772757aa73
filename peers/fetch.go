package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/wire"
)

const (
	// An answer is waited for so long, and as long again as its bytes take at
	// the slowest useful rate.
	answerTime = 10 * time.Second
	slowest    = 32 << 10 // bytes a second
	// Who waits asks a second peer when the first takes twice what was expected,
	// but not before this.
	hedgeMin = 100 * time.Millisecond
	// Wrong bytes so many times: the peer is not asked again in this session.
	maxWrong = 2
	// Members hear of blocks that have come at most this often.
	nudgePause = 200 * time.Millisecond
)

var errWrongBytes = errors.New("peer sent other bytes than were asked for")

// A flight is a fetch going on that others of the same block can wait for.
type flight struct {
	class Class
	done  chan struct{}
	err   error // valid when done is closed
}

// Fetch returns when the verified block is in the store. ErrOffline: no
// connected member has it.
func (r *Remote) Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error {
	if size < 0 || size > wire.MaxBlock {
		return fmt.Errorf("fetch block: size %d", size)
	}
	if class >= classes {
		class = Background
	}
	for {
		at, call, release := r.acquire(ctx)
		if at == nil {
			return ErrOffline
		}
		err := r.fetchOr(call, at, id, size, class)
		release()
		if err == nil || ctx.Err() != nil || at.ctx.Err() == nil {
			return err
		}
		// All links are opened anew: that is no business of who waits for a block.
	}
}

// fetchOr fetches a block, or waits for who does already.
func (r *Remote) fetchOr(ctx context.Context, at *attachment, id blocks.ID, size int64, class Class) error {
	for {
		f, mine := r.fly(id, class)
		if mine {
			f.err = r.fetch(ctx, at, id, size, class)
			r.land(id, f)
			return f.err
		}
		select {
		case <-f.done:
			if f.err == nil || !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
				return f.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fly returns the flight for a block: a new one, unless one of the same or a
// more urgent class is in the air.
func (r *Remote) fly(id blocks.ID, class Class) (f *flight, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[id]; f != nil && f.class <= class {
		return f, false
	}
	f = &flight{class: class, done: make(chan struct{})}
	r.flights[id] = f
	return f, true
}

func (r *Remote) land(id blocks.ID, f *flight) {
	r.mu.Lock()
	if r.flights[id] == f {
		delete(r.flights, id)
	}
	r.mu.Unlock()
	close(f.done)
	if f.err == nil {
		r.kickIn(nudgePause) // members are told how many are missing
	}
}

// An attempt is a block asked of one peer.
type attempt struct {
	s    *session
	c    *call
	size int64
	at   time.Time
}

// end gives the room in the peer's window back.
func (a *attempt) end(how outcome) { a.s.window.release(a.size, time.Since(a.at), how) }

// fetch asks one peer after the other. A waiting reader has two asked at once
// when the first is slow.
func (r *Remote) fetch(ctx context.Context, at *attachment, id blocks.ID, size int64, class Class) error {
	tried := map[*session]bool{}
	hedge := class == Waiting
	var open []*attempt
	defer func() {
		for _, a := range open {
			a.c.cancel()
			a.end(gotLost)
		}
	}()
	for {
		if len(open) == 0 {
			a, err := r.try(ctx, id, size, class, tried)
			if err != nil {
				return err
			}
			open = append(open, a)
		}
		a, got, err := r.await(ctx, open, hedge && len(open) == 1)
		switch {
		case err != nil:
			return err
		case a == nil: // slow: a second one is asked, if there is one
			hedge = false
			if b, err := r.try(ctx, id, size, class, tried); err == nil {
				open = append(open, b)
			}
			continue
		}
		open = without(open, a)
		if err := r.store(ctx, at, id, a, got); err == nil || !errors.Is(err, errNoHave) {
			return err
		}
	}
}

func without(list []*attempt, a *attempt) []*attempt {
	var out []*attempt
	for _, b := range list {
		if b != a {
			out = append(out, b)
		}
	}
	return out
}

// try asks the peer that is expected to answer first of those not tried yet.
func (r *Remote) try(ctx context.Context, id blocks.ID, size int64, class Class, tried map[*session]bool) (*attempt, error) {
	for ctx.Err() == nil {
		s := r.pick(size, tried)
		if s == nil {
			return nil, ErrOffline
		}
		tried[s] = true
		room := size
		if room == 0 {
			room = wire.MaxBlock / 4
		}
		if err := s.window.acquire(ctx, room, class); err != nil {
			return nil, err
		}
		start := time.Now()
		c, err := s.pullers[class].ask(ctx, r.id, id, size)
		if err == nil {
			return &attempt{s, c, room, start}, nil
		}
		s.window.release(room, time.Since(start), gotLost)
		r.n.log.Debug("ask for block", "peer", s.p, "err", err)
	}
	return nil, ctx.Err()
}

// pick returns the session that is expected to bring size bytes first.
func (r *Remote) pick(size int64, tried map[*session]bool) *session {
	var best *session
	var least time.Duration
	for _, s := range r.n.sessions() {
		if tried[s] {
			continue
		}
		rtt, missing, ok := s.offers(r)
		if !ok {
			continue
		}
		t := s.window.expect(size, rtt)
		if missing {
			t *= 2 // it may not have it yet
		}
		if best == nil || t < least {
			best, least = s, t
		}
	}
	return best
}

// offers tells whether the peer may be asked for blocks of r.
func (s *session) offers(r *Remote) (rtt time.Duration, missing, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[r.id]
	if l == nil || !l.theirs.here && !l.had || s.wrong >= maxWrong || s.ended {
		return 0, false, false
	}
	return s.rtt, l.theirs.missing > 0 || l.theirs.mode == OnDemand, true
}

// await returns the first answer of open attempts; nil if a second peer should
// be asked. An attempt that is silent too long ends as one without a block.
func (r *Remote) await(ctx context.Context, open []*attempt, hedge bool) (*attempt, answer, error) {
	first := open[0]
	patience := answerTime + time.Duration(first.size)*time.Second/slowest
	t := time.NewTimer(patience - time.Since(first.at))
	defer t.Stop()
	var slow <-chan time.Time
	var second <-chan answer
	if hedge {
		h := time.NewTimer(max(hedgeMin, 2*first.s.window.expect(first.size, 0)) - time.Since(first.at))
		defer h.Stop()
		slow = h.C
	}
	if len(open) > 1 {
		second = open[1].c.answer
	}
	select {
	case <-ctx.Done():
		return nil, answer{}, ctx.Err()
	case got := <-first.c.answer:
		return first, got, nil
	case got := <-second:
		return open[1], got, nil
	case <-slow:
		return nil, answer{}, nil
	case <-t.C:
		first.c.cancel()
		return first, answer{err: fmt.Errorf("%w: %w", errLost, errSilent)}, nil
	}
}

// store verifies what came and keeps it. errNoHave: another peer is to be
// asked.
func (r *Remote) store(ctx context.Context, at *attachment, id blocks.ID, a *attempt, got answer) error {
	defer got.free()
	switch {
	case errors.Is(got.err, errNoHave):
		a.end(gotNone)
		return errNoHave
	case got.err != nil:
		a.end(gotLost)
		return fmt.Errorf("%w: %w", errNoHave, got.err)
	}
	a.end(gotBlock)
	err := at.Store.PutVerified(ctx, id, got.data)
	if errors.Is(err, blocks.ErrDamaged) {
		a.s.wrongBytes(r)
		return fmt.Errorf("%w: %w", errNoHave, errWrongBytes)
	}
	if err != nil {
		return fmt.Errorf("store block: %w", err)
	}
	return nil
}

// wrongBytes counts blocks that were not what was asked for.
func (s *session) wrongBytes(r *Remote) {
	s.mu.Lock()
	s.wrong++
	wrong := s.wrong
	s.mu.Unlock()
	if wrong >= maxWrong {
		s.n.log.Error("peer sends wrong blocks and is not asked any more", "peer", s.p, "folder", r.id)
		return
	}
	s.n.log.Warn("peer sent a wrong block", "peer", s.p, "folder", r.id)
}
