package peers

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A meeting decides whether a link carries changes: from what each side told
// when it opened the folder. Nothing is exchanged before.
type meeting struct {
	mu   sync.Mutex // held while it is decided, before session.mu
	done bool       // it is, from:
	told uint64     // so many openings told
	of   uint64     // so many heard
	ok   bool
	due  time.Time // when a link that waits is looked at again
}

// waits is how often it is looked whether a link must still wait.
const waits = 10 * time.Second

// openingOf reads what a peer told.
func openingOf(m *wire.FolderState, k model.VV) (o model.Opening, err error) {
	x := m.GetOpening()
	if x == nil {
		return model.Opening{K: k}, nil
	}
	o.Own, o.Returning = model.Replica(x.Own), x.Returning
	var errs [4]error
	o.K, errs[0] = model.DecodeVV(x.Knowledge)
	o.Horizon, errs[1] = model.DecodeVV(x.Horizon)
	o.Marks, errs[2] = model.DecodeMarks(x.Marks)
	o.Proofs, errs[3] = model.DecodeProofs(x.Proofs)
	return o, errors.Join(errs[:]...)
}

func openingMessage(o model.Opening) *wire.Opening {
	return &wire.Opening{Own: uint64(o.Own), Knowledge: o.K.Encode(), Horizon: o.Horizon.Encode(),
		Marks: model.EncodeMarks(o.Marks), Returning: o.Returning, Proofs: model.EncodeProofs(o.Proofs)}
}

// meet tells whether a link carries changes, and decides it if that is due.
func (s *session) meet(l *link) (bool, error) {
	m := &l.meeting
	m.mu.Lock()
	defer m.mu.Unlock()
	s.mu.Lock()
	ours, theirs, told, of, here, heads := l.opening, l.theirs.opening, l.openings, l.heard, l.theirs.here, l.theirs.heads
	s.mu.Unlock()
	if told == 0 || !here || !l.r.log().Knows(heads) { // what it shows may be signed by a member not known yet
		return false, nil
	}
	again := m.done && m.told == told && m.of == of
	if again && (m.ok || time.Now().Before(m.due)) {
		return m.ok, nil
	}
	if theirs.Own != 0 && !theirs.Own.Of(s.pub) {
		return false, fmt.Errorf("%w: %s writes as a replica of another device", errNotTaken, s.p)
	}
	at, ctx, release := l.r.acquire(s.ctx)
	if at == nil || at != l.at {
		if at != nil {
			release()
		}
		return false, nil
	}
	tell, err := at.Folder.Meet(ctx, s.p.String(), ours, theirs)
	release()
	switch {
	case errors.Is(err, syncer.ErrAnew), err == nil && again: // what came meanwhile was not taken in
		l.r.renew(at)
		return false, nil
	case err != nil && !errors.Is(err, syncer.ErrWait):
		return false, fmt.Errorf("%w: meet: %w", errNotTaken, err)
	}
	m.done, m.told, m.of, m.ok, m.due = true, told, of, err == nil, time.Now().Add(waits)
	if ours.Show(tell) {
		s.mu.Lock()
		if l.openings == told { // else the peer has a newer one
			l.tell, l.opening = true, ours
		}
		s.mu.Unlock()
		s.wake()
	}
	return m.ok, nil
}

// leave tells the folders that their links are over.
func (s *session) leave() {
	s.mu.Lock()
	links := make([]*link, 0, len(s.links))
	for _, l := range s.links {
		links = append(links, l)
	}
	s.mu.Unlock()
	for _, l := range links {
		s.left(l)
	}
}

func (s *session) left(l *link) {
	at, _, release := l.r.acquire(s.ctx)
	if at == nil {
		return
	}
	again := at.Folder.Left(s.p.String())
	release()
	if again {
		l.r.renew(at)
	}
}
