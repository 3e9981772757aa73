package syncer

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Knowledge is what is durable here: all that may be announced.
func (f *Folder) Knowledge() model.VV {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable
}

// Known is what is here, durable or not. What came in part, or in front of what it
// needs, is not: it may come whole from another.
func (f *Folder) Known() model.VV { return f.ix.K() }

// Since yields the batches that k lacks, verbatim, in causal order, and ends
// when all that was known at the call are yielded: of what came over gaps, those
// after over. Before one that names what is dead comes a header alone, which proves
// that it was made. All are durable first: a change that was announced and then lost
// in a power cut would be made anew, and differently.
func (f *Folder) Since(ctx context.Context, k, over model.VV) iter.Seq2[model.Batch, error] {
	return func(yield func(model.Batch, error) bool) {
		f.apply.Lock()
		s := f.ix.Snapshot()
		f.apply.Unlock()
		defer s.Close()
		if err := f.Sync(); err != nil {
			yield(model.Batch{}, err)
			return
		}
		for b, err := range s.Send(k, over) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// Receive verifies a batch and joins it. An error means that it was not taken
// in: the sender broke the protocol, or nothing more fits here, not even rows.
// There need be no room for blocks: what others remove makes some.
func (f *Folder) Receive(ctx context.Context, from string, b model.Batch) error {
	h, changes, err := f.verify(b, f.o.Allowed)
	if err != nil {
		return fmt.Errorf("batch from %s: %w", from, err)
	}
	if err := f.roomForRows(); err != nil {
		return err
	}
	defer f.syncSoon()
	return f.update(func(t *index.Tx) error {
		f.by = model.Label{Author: h.Author, Device: h.Device}
		if f.ix.Incomplete() {
			if from != f.anchor {
				return nil // it comes again when this member is complete
			}
			f.fed = time.Now()
		}
		if known, err := f.admit(t, from, h, b, changes); known || err != nil {
			if err != nil {
				err = fmt.Errorf("batch from %s: %w", from, err)
			}
			return err
		}
		if len(b.Body) > 0 {
			if err := f.made(h.Deps, h.Replica); err != nil {
				return fmt.Errorf("batch from %s: %w", from, err)
			}
		}
		if len(b.Body) > 0 && !knew(h, changes, f.ix.Horizon()) { // before anything is changed
			f.alarm("%s has changes of replica %v whose author did not know of all that has been forgotten here: they are not taken in", from, h.Replica)
			return fmt.Errorf("batch from %s: %w: changes of replica %v from %d on", from, ErrBehind, h.Replica, h.Lo)
		}
		if len(b.Body) == 0 {
			t.ShowHeader(h, b.Header)
			return t.Err()
		}
		t.FlipTogether()
		t.AddBatch(h, b, changes)
		f.rescue(t, changes)
		f.publishInline(t)
		f.watchSets()
		return t.Err()
	})
}

// knew tells whether the author of a batch knew a horizon, and had all of it where
// it made nodes anew.
func knew(h model.Header, changes []model.Change, horizon model.VV) bool {
	return h.Knew(horizon) && !slices.ContainsFunc(changes, func(c model.Change) bool { return len(c.Lacks) > 0 && !horizon.LE(c.Had(h.Deps)) })
}

// verify checks all of a batch that hangs on nothing that was joined.
func (f *Folder) verify(b model.Batch, allowed func(ed25519.PublicKey) error) (model.Header, []model.Change, error) {
	h, changes, err := f.seal.Verify(b, allowed)
	switch {
	case err != nil:
		return h, nil, err
	case !h.Replica.Of(h.Signer):
		return h, nil, fmt.Errorf("%w: replica %v is not of who signed it", model.ErrBatch, h.Replica)
	}
	return h, changes, f.checkChanges(changes)
}

// made refuses dots that nobody is known to have made: of who knows the future,
// the changes would supersede what others are yet to say. Whoever has joined a
// batch proves what it names before it sends it, so only a liar's is refused, and
// by all alike.
func (f *Folder) made(dots model.VV, but model.Replica) error {
	for _, d := range dots {
		if d.Replica == but {
			continue
		}
		if yes, err := f.ix.Reached(d); err != nil {
			return err
		} else if !yes {
			return fmt.Errorf("%w: it knows of %v, which nobody has made", model.ErrBatch, d)
		}
	}
	return nil
}

// checkChanges refuses names that are ours, however they are spelt, and contents
// that cannot be.
func (f *Folder) checkChanges(changes []model.Change) error {
	for _, c := range changes {
		for _, l := range c.Links {
			if l.Parent == model.RootID && f.ix.Fold(l.Name) == model.Reserved {
				return fmt.Errorf("%w: change %v: reserved name", model.ErrBatch, c.Dot)
			}
		}
		if c.Version == nil || c.Kind != model.File || c.ID.IsZero() {
			continue
		}
		if _, err := content.Decode(c.Version.Content); err != nil {
			return fmt.Errorf("%w: change %v: %w", model.ErrBatch, c.Dot, err)
		}
	}
	return nil
}

// rescue lets the names come back that a remote change took away only because
// its author did not know better.
func (f *Folder) rescue(t *index.Tx, changes []model.Change) {
	if f.o.ReadOnly || f.ix.Incomplete() {
		return
	}
	var ids []model.ID
	seen := map[model.ID]bool{}
	add := func(id model.ID) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	var known model.VV // by all who moved a directory
	moved := false
	for _, c := range changes {
		switch n := t.Node(c.ID); {
		case c.ID.IsZero() || n == nil:
		case c.Kind != model.Dir:
			for _, l := range n.Links {
				if len(l.Dels) > 0 {
					add(c.ID)
				}
			}
		case len(c.Links) > 0 && len(n.Links) > 0 && len(n.Links[0].Hist) > 1:
			k := t.Origin(n.Links[0].Hist[0].Dot).K
			if moved {
				k = k.Meet(known)
			}
			known, moved = k, true
		}
	}
	if moved { // what one of them did not know is what they did not all know
		t.Removed(known, add)
	}
	if len(ids) == 0 {
		return
	}
	a := t.NewAuthor(f.o.Label, f.o.Now().Unix())
	a.Rescue(ids)
	f.logOwn(t, a)
}

// CaughtUp says that the peer has sent everything up to k: what did not come is
// dead.
func (f *Folder) CaughtUp(ctx context.Context, from string, k model.VV) error {
	if len(k) > model.MaxReplicas {
		return fmt.Errorf("knowledge of %s: %w", from, model.ErrBatch)
	}
	defer f.syncSoon()
	settled := false
	err := f.update(func(t *index.Tx) error {
		back := f.ix.Incomplete()
		if back && from != f.anchor {
			return nil
		}
		met := f.met[from]
		if own := f.ix.Replica(); k.Get(own) > f.ix.K().Get(own) { // it never came: nobody but us could say so
			return fmt.Errorf("catch-up of %s: %w: it knows what this replica has not done", from, model.ErrBatch)
		}
		if err := f.made(k, 0); err != nil {
			return fmt.Errorf("catch-up of %s: %w", from, err)
		}
		if h := met.forgotten(f.ix.K()); !h.LE(f.ix.K()) { // what it has collected did not come, so it is collected here
			t.SetHorizon(h)
		}
		if !k.LE(f.ix.K()) {
			was := f.ix.K()
			t.Know(k)
			t.Adopt(slices.Concat(met.Marks, met.Told), met.proofs, was, k)
			t.Overdue(f.busy) // databases that came over gaps
		}
		if back && met.K.LE(k) {
			t.Settle(k, f.o.ReadOnly)
			t.Complete()
			settled, f.anchor = true, ""
		}
		return t.Err()
	})
	if err != nil || !settled {
		return err
	}
	f.log.Info("complete again", "with", from)
	f.recover()
	return ErrAnew // the others were not listened to
}

// Acked says that k is durable at the peer, and how many blocks of it the peer
// still lacks.
func (f *Folder) Acked(peer string, k model.VV, missing uint64) {
	f.mu.Lock()
	f.acks[peer] = Ack{K: k, Missing: missing}
	f.early[peer] = k
	f.hear()
	f.mu.Unlock()
	f.unpark()
	f.tell(nil)
}

// Acks returns what each peer last said it has.
func (f *Folder) Acks() map[string]Ack {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]Ack, len(f.acks))
	for p, a := range f.acks {
		out[p] = a
	}
	return out
}

// Joined is all that has been joined, in part at least: what is durable or not,
// and what came over gaps. Two folders of which this is the same have the same
// state.
func (f *Folder) Joined() model.VV {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.ix.Joined()
}
