package syncer_test

import (
	"context"
	"errors"

	. "github.com/clachanfs/clachan/syncer"
)

// meet opens a link between two, unless it is open; false: not now.
func (w *world) meet(ctx context.Context, p, q *peer) bool {
	w.t.Helper()
	link := [2]*Folder{p.Folder, q.Folder}
	if w.met[link] {
		return true
	}
	op, err := p.Opening()
	p.must(err)
	oq, err := q.Opening()
	q.must(err)
	tellQ, err1 := p.Meet(ctx, q.name, op, oq)
	op.Show(tellQ)
	tellP, err2 := q.Meet(ctx, p.name, oq, op)
	if oq.Show(tellP) && !errors.Is(err1, ErrAnew) {
		_, err1 = p.Meet(ctx, q.name, op, oq)
	}
	w.anew(p, err1)
	w.anew(q, err2)
	if err := errors.Join(err1, err2); err != nil {
		return false
	}
	w.met[link], w.met[[2]*Folder{q.Folder, p.Folder}] = true, true
	return true
}

// anew shuts a peer's links if it asks for that; any other error is none of a
// link's.
func (w *world) anew(p *peer, err error) {
	w.t.Helper()
	switch {
	case errors.Is(err, ErrAnew):
		for link := range w.met {
			if link[0] == p.Folder || link[1] == p.Folder {
				delete(w.met, link)
			}
		}
	case err != nil && !errors.Is(err, ErrWait):
		w.t.Errorf("%s: meet: %v", p.name, err)
	}
}

// shut shuts all links.
func (w *world) shut() {
	clear(w.met)
	for _, p := range w.up() {
		for _, q := range w.peers {
			p.Left(q.name)
		}
	}
}

// part cuts all off from each other, or ends that.
func (w *world) part(cut bool) {
	w.talk.Lock()
	w.cut.Store(cut)
	w.shut()
	w.talk.Unlock()
	w.poke()
}

func (w *world) poke() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}
