package peers

import (
	"errors"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A meeting decides whether a link carries changes: from what each side told
// when it opened the folder. Nothing is exchanged before. session.mu guards it,
// and is not held while the folder is asked.
type meeting struct {
	busy chan struct{} // if somebody is deciding it: closed afterwards
	done bool          // it is decided, from:
	told uint64        // so many openings told
	of   uint64        // so many heard
	ok   bool
	due  time.Time // when a link that waits is looked at again
}

// A question is what a meeting is decided from.
type question struct {
	ours, theirs model.Opening
	told, of     uint64
	again        bool // it was decided from the same before
}

// waits is how often it is looked whether a link must still wait.
const waits = 10 * time.Second

// openingOf reads what a peer told.
func openingOf(m *wire.FolderState, k model.VV) (o model.Opening, err error) {
	x := m.GetOpening()
	if x == nil {
		return model.Opening{K: k}, nil
	}
	o.Own, o.Returning, o.Answers = model.Replica(x.Own), x.Returning, x.Answers
	var errs [5]error
	o.K, errs[0] = model.DecodeVV(x.Knowledge)
	o.Horizon, errs[1] = model.DecodeVV(x.Horizon)
	o.Marks, errs[2] = model.DecodeMarks(x.Marks)
	o.Proofs, errs[3] = model.DecodeProofs(x.Proofs)
	o.Told, errs[4] = model.DecodeMarks(x.Told)
	return o, errors.Join(errs[:]...)
}

func openingMessage(o model.Opening) *wire.Opening {
	return &wire.Opening{Own: uint64(o.Own), Knowledge: o.K.Encode(), Horizon: o.Horizon.Encode(),
		Marks: model.EncodeMarks(o.Marks), Returning: o.Returning, Answers: o.Answers, Told: model.EncodeMarks(o.Told), Proofs: model.EncodeProofs(o.Proofs)}
}

// meet tells whether a link carries changes, and decides it if that is due. Of
// two who ask at once one decides and the other waits for it.
func (s *session) meet(l *link) (bool, error) {
	for {
		q, ok, busy := s.question(l)
		switch {
		case q != nil:
			ok, err := s.decide(l, q)
			s.mu.Lock()
			close(l.meeting.busy)
			l.meeting.busy = nil
			s.mu.Unlock()
			return ok, err
		case busy == nil:
			return ok, nil
		}
		select {
		case <-busy:
		case <-s.ctx.Done():
			return false, nil
		}
	}
}

// question returns what the caller is to decide now; or, if that is nothing,
// whether the link carries changes; or what to wait for.
func (s *session) question(l *link) (q *question, ok bool, busy chan struct{}) {
	log := l.r.log()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &l.meeting
	if l.openings == 0 || !l.theirs.here || !l.acquainted(log) { // what it shows may be signed by a member not known yet
		return nil, false, nil
	}
	again := m.done && m.told == l.openings && m.of == l.heard
	if again && (m.ok || time.Now().Before(m.due)) {
		return nil, m.ok, nil
	}
	if m.busy != nil {
		return nil, false, m.busy
	}
	m.busy = make(chan struct{})
	return &question{ours: l.opening, theirs: l.theirs.opening, told: l.openings, of: l.heard, again: again}, false, nil
}

// decide asks the folder.
func (s *session) decide(l *link, q *question) (bool, error) {
	if q.theirs.Own != 0 && !q.theirs.Own.Of(s.pub) {
		return false, fmt.Errorf("%w: %s writes as a replica of another device", errNotTaken, s.p)
	}
	at, ctx, release := l.r.acquire(s.ctx)
	if at == nil || at != l.at {
		if at != nil {
			release()
		}
		return false, nil
	}
	tell, err := at.Folder.Meet(ctx, s.p.String(), q.ours, q.theirs)
	release()
	switch {
	case errors.Is(err, syncer.ErrAnew), err == nil && q.again: // what came meanwhile was not taken in
		l.r.renew(at)
		return false, nil
	case err != nil && !errors.Is(err, syncer.ErrWait):
		return false, fmt.Errorf("%w: meet: %w", errNotTaken, err)
	}
	show := q.ours.Show(tell)
	s.mu.Lock()
	m := &l.meeting
	m.done, m.told, m.of, m.ok, m.due = true, q.told, q.of, err == nil, time.Now().Add(waits)
	if show && l.openings == q.told { // else the peer has a newer one
		l.tell, l.opening = true, q.ours
	}
	s.mu.Unlock()
	if show || err == nil { // there is something to say, or acks count now
		s.wake()
	}
	return err == nil, nil
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
