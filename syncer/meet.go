package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

var (
	// ErrAnew means that a link must be opened anew: what is known here is less
	// than was said, or another history than was thought.
	ErrAnew = errors.New("the folder is to be met anew")
	// ErrWait means that nothing is to be exchanged with a peer for now: it is
	// its turn to begin anew, or that of another to make this member complete.
	ErrWait = errors.New("the folder waits for another member")
	// ErrBehind means that the author of a change did not know all that must be
	// known here: it may build on what was collected, and is not joined. Honest
	// members, counted until they are removed, make none.
	ErrBehind = errors.New("changes by one who is behind")
)

// Opening says how the folder is here, to a peer with which changes are going to
// be exchanged.
func (f *Folder) Opening() (model.Opening, error) {
	o, err := f.opening()
	if err == nil && !o.K.LE(f.Knowledge()) { // what is said must be durable
		err = f.Sync()
	}
	return o, err
}

func (f *Folder) opening() (o model.Opening, err error) {
	f.apply.Lock()
	s := f.ix.Snapshot() // many marks are not read under the lock
	o = model.Opening{Own: f.ix.Replica(), K: s.K, Horizon: f.ix.Horizon(), Returning: f.ix.Incomplete()}
	f.apply.Unlock()
	if !o.Returning {
		var tips [][]byte
		if o.Marks, o.Told, err = s.Marks(); err == nil {
			tips, err = s.Tips(o.Marks)
		}
		o.Show(model.Tell{Headers: tips})
	}
	return o, errors.Join(err, s.Close())
}

// A meeting is what a peer has told, and what of it is proven.
type meeting struct {
	model.Opening
	proofs []model.Proof
}

// reaches tells whether a dot of a replica is proven that is not before d.
func (m meeting) reaches(d model.Dot) bool {
	return slices.ContainsFunc(m.proofs, func(p model.Proof) bool { return p.Dot.Replica == d.Replica && p.Dot.Seq >= d.Seq })
}

// next is what the peer will do next, if it is what it says.
func (m meeting) next() model.Dot { return model.Dot{Replica: m.Own, Seq: m.K.Get(m.Own) + 1} }

// proven are the marks of which the peer has shown the headers.
func (m meeting) proven() []model.Mark {
	out := make([]model.Mark, len(m.proofs))
	for i, p := range m.proofs {
		out[i] = p.Mark
	}
	return out
}

// Meet decides whether changes may be exchanged with a peer, before any are.
// ours is the Opening the peer was told, theirs what it told: both sides decide
// from the same two. nil: go on. ErrAnew: this member has begun anew, all its
// links are to be opened again. ErrWait: nothing goes to or comes from this peer
// until one of the two opens anew, or has shown more. The Tell, if any, is what
// the peer should be told: it does little on what is only said.
//
// Whoever is shown changes of its own replica that it does not have, or has
// otherwise, was restored or copied: it goes on as a new replica, durably before
// anything else happens. Only it could have signed them. Unless the peer says to
// have its last change, it begins anew from there: no mark may be left that tells
// what was done on an old copy from what others have under the same numbers.
//
// Histories that part cannot be joined: one side begins anew from the other. If
// one is the owner of the replica, it; else one that cannot show its end; else the
// one with the shorter end. With several such replicas the smallest counts. This
// ends: an owner has another replica afterwards, so the ends of a replica stop
// growing, and each time somebody begins anew without being the owner, its tip of
// that replica grows, or becomes one that is proven.
//
// Where deletions have been forgotten that the other side may not know of, it
// begins anew; if that goes both ways, the one that has forgotten less. So it is
// where one has taken changes that the other must refuse (ErrBehind): whoever has
// forgotten less has what the other has, afterwards, and what only it had it says
// anew, knowing all.
func (f *Folder) Meet(ctx context.Context, peer string, ours, theirs model.Opening) (model.Tell, error) {
	proofs, err := f.seal.Prove(theirs.Proofs, f.o.Allowed)
	if err != nil {
		return model.Tell{}, fmt.Errorf("meet %s: %w", peer, err)
	}
	var was, is model.Replica
	var tell model.Tell
	err = f.locked(func() (err error) {
		was = f.ix.Replica()
		tell, err = f.meet(peer, ours, meeting{theirs, proofs})
		is = f.ix.Replica()
		return err
	})
	if was != is {
		if serr := f.Sync(); serr != nil {
			return model.Tell{}, serr
		}
	}
	return tell, err
}

func (f *Folder) meet(peer string, ours model.Opening, theirs meeting) (tell model.Tell, err error) {
	if err := f.broken(); err != nil {
		return tell, err
	}
	said, forks, agreed, err := f.partings(theirs)
	if err != nil {
		return tell, fmt.Errorf("meet %s: %w", peer, err)
	}
	f.met[peer] = theirs
	f.mu.Lock()
	f.parted[peer] = len(said) > 0
	f.mu.Unlock()
	if tell.Marks, err = f.near(theirs.Opening); err != nil {
		return tell, fmt.Errorf("meet %s: %w", peer, err)
	}
	header, err := f.ix.ProofOf(theirs.next())
	if err != nil {
		return tell, fmt.Errorf("meet %s: %w", peer, err)
	}
	if tell.Answers = len(header) > 0; tell.Answers {
		tell.Headers = [][]byte{header}
	}
	own := f.ix.Replica()
	tip := model.Dot{Replica: own, Seq: f.ix.K().Get(own)}
	next := model.Dot{Replica: own, Seq: tip.Seq + 1}
	_, forked := forks[own]
	same := agreed[own] // up to here the peer tells to have what we have
	if x, parted := said[own]; parted {
		same = x.Agreed
	}
	switch {
	case theirs.reaches(next) && same < tip.Seq && !f.ix.Incomplete():
		if theirs.Returning || !theirs.Answers { // it has yet to tell how much of ours it has
			return tell, ErrWait
		}
		f.alarm(isCopy, peer)
		forks[own] = index.Fork{Agreed: same}
		return tell, f.beginAnew(peer, forks, theirs.Opening)
	case theirs.Own == own || forked || theirs.reaches(next):
		t := f.ix.Begin()
		f.restored(t, peer)
		if _, err := f.commit(t); err != nil {
			return tell, err
		}
	}
	if f.ix.Incomplete() {
		return tell, f.meetIncomplete(peer, theirs.Opening, len(said) > 0)
	}
	headers, err := f.mayJoin(peer, ours, theirs, said, forks, tell.Answers)
	tell.Headers = append(tell.Headers, headers...)
	return tell, err
}

// near are the marks that tell a peer how much of what it has of its own replica, or
// of one of which it has missed much, is what is here: ours that come next before
// its end, and before ever more than that.
func (f *Folder) near(theirs model.Opening) (out []model.Mark, err error) {
	around := func(d model.Dot, far uint64) error {
		has := theirs.K.Get(d.Replica)
		if has == 0 || d.Seq < has+far {
			return nil
		}
		for back := uint64(0); back < has; back = 2*back + 1 { // what is not of our history is at its end
			m, err := f.ix.Near(model.Dot{Replica: d.Replica, Seq: has - back})
			if err != nil {
				return err
			}
			if m.Lo > 0 {
				out = append(out, m)
			}
		}
		return nil
	}
	k := f.ix.K()
	err = around(model.Dot{Replica: theirs.Own, Seq: k.Get(theirs.Own)}, 1) // first, since there is only so much room
	for _, d := range k {
		err = cmp.Or(err, around(d, index.KeptMarks))
	}
	return out, err
}

// mayJoin decides between two that are complete. more tells whether more is here of
// the peer's own replica than it has: it is going to be shown that.
func (f *Folder) mayJoin(peer string, ours model.Opening, theirs meeting, said, forks map[model.Replica]index.Fork, more bool) (tell [][]byte, err error) {
	shown := map[model.Replica]bool{}       // whose end we can show
	plain := map[model.Replica]index.Fork{} // whose end one of the two can show
	for r, x := range said {
		if _, is := forks[r]; is {
			plain[r] = x
			f.alarm("somebody's database was restored or copied: %s has other changes of it from %v on", peer, model.Dot{Replica: r, Seq: x.Agreed + 1})
		}
		header, err := f.ix.Proof(x.Ours)
		if err != nil {
			return nil, fmt.Errorf("meet %s: %w", peer, err)
		}
		if shown[r] = len(header) > 0; shown[r] {
			plain[r], tell = x, append(tell, header)
		}
	}
	first := index.FirstOf(plain)
	_, proven := forks[first]
	switch {
	case len(said) > 0:
		if _, its := said[theirs.Own]; its && more {
			return tell, ErrWait // it begins anew, whatever else there is
		}
		if !proven || shown[first] && !losesFork(first, ours, theirs.Opening) || theirs.Returning {
			return tell, ErrWait
		}
	case away(theirs.Horizon, ours.K):
		if away(ours.Horizon, theirs.K) && !lessForgotten(ours.Horizon, theirs.Horizon) || theirs.Returning || !theirs.knew(ours.K) {
			return nil, ErrWait
		}
		f.alarm("this member was away for long, and begins anew from %s", peer)
	case away(ours.Horizon, theirs.K):
		return nil, ErrWait
	default:
		late, refused, err := f.behind(theirs)
		less := lessForgotten(ours.Horizon, theirs.Horizon) || ours.Horizon.Equal(theirs.Horizon) && ours.Own < theirs.Own
		switch {
		case err != nil:
			return nil, fmt.Errorf("meet %s: %w", peer, err)
		case len(late) == 0 && (!refused || !less):
			return nil, nil
		case !less:
			return [][]byte{late}, ErrWait
		}
		f.alarm("changes by one who was behind are taken in here and not at %s: this member begins anew from there", peer)
	}
	return nil, f.beginAnew(peer, forks, theirs.Opening)
}

// behind looks for changes by one who did not know all that is forgotten where
// they are to go: late is the header of some that are here and that the peer must
// refuse, refused tells whether it has shown some that we must.
func (f *Folder) behind(theirs meeting) (late []byte, refused bool, err error) {
	if theirs.Returning || !theirs.knew(f.ix.K()) {
		return nil, false, nil
	}
	if late, err = f.ix.Late(theirs.K, theirs.Horizon); err != nil {
		return nil, false, err
	}
	for _, p := range theirs.proofs {
		h, err := model.DecodeHeader(p.Header)
		if err != nil {
			return nil, false, err
		}
		_, here, err := f.ix.Marked(p.Dot, p.Lo)
		if err != nil {
			return nil, false, err
		}
		refused = refused || !here && !f.ix.K().Has(p.Dot) && !h.Knew(f.ix.Horizon())
	}
	return late, refused, nil
}

// partings finds the replicas of which a peer has another history: those it says,
// and of these those that are proven; and up to where it tells to have what is here.
func (f *Folder) partings(theirs meeting) (said, forks map[model.Replica]index.Fork, agreed map[model.Replica]uint64, err error) {
	said, agreed, err = f.ix.Compare(theirs.proven(), theirs.Marks, theirs.Told)
	if err != nil {
		return nil, nil, nil, err
	}
	forks, _, err = f.ix.Compare(theirs.proven(), nil, nil)
	for r := range forks {
		forks[r] = said[r] // where they part is more exact with what is said
	}
	return said, forks, agreed, err
}

// knew tells whether the peer can show changes as late as all that it says to have
// forgotten and k lacks: nobody has to begin anew for numbers that are made up.
func (m meeting) knew(k model.VV) bool {
	return len(m.forgotten(k)) == len(m.Horizon)
}

// forgotten is what the peer says to have forgotten, but for numbers that neither
// k has nor a header proves.
func (m meeting) forgotten(k model.VV) model.VV {
	return slices.DeleteFunc(slices.Clone(m.Horizon), func(d model.Dot) bool { return !k.Has(d) && !m.reaches(d) })
}

// patience is for how long a member that is not complete waits for a silent
// anchor when it meets another.
const patience = time.Minute

// meetIncomplete lets one peer at a time make this member complete. Another goes
// on where that one ended only if they tell the same, and nothing was ever
// collected by either: else what one had told before may be what the other has
// collected.
func (f *Folder) meetIncomplete(peer string, theirs model.Opening, forked bool) error {
	if theirs.Returning || f.anchor != "" && f.anchor != peer && time.Since(f.fed) < patience {
		return ErrWait
	}
	first, purged := f.ix.Newcomer()
	if len(f.ix.Joined()) > 0 && f.anchor != peer && (!first || purged || forked || len(theirs.Horizon) > 0) {
		return f.beginAnew(peer, nil, theirs)
	}
	f.anchor, f.fed = peer, time.Now()
	if !first || purged || len(theirs.Horizon) == 0 {
		return nil
	}
	t := f.ix.Begin()
	t.SetNewcomer(true)
	_, err := f.commit(t)
	return err
}

// beginAnew drops what is known and pulls it from a peer.
func (f *Folder) beginAnew(peer string, forks map[model.Replica]index.Fork, theirs model.Opening) error {
	if err := f.ix.Rebase(theirs.K, forks, model.NewReplica(f.device())); err != nil {
		f.stop(err)
		return err
	}
	f.anchor, f.fed = peer, time.Now()
	f.mu.Lock()
	f.durable = nil
	clear(f.early) // of the histories before
	f.lives++
	f.mu.Unlock()
	f.log.Warn("beginning anew, with what the tree shows", "from", peer)
	return ErrAnew
}

// Left says that a peer is not connected any more. It returns true if the links
// are to be opened anew, because another must take its place.
func (f *Folder) Left(peer string) bool {
	f.apply.Lock()
	defer f.apply.Unlock()
	delete(f.met, peer)
	if f.anchor != peer {
		return false
	}
	f.anchor = ""
	return f.ix.Incomplete()
}

// losesFork tells whether it is for us to begin anew.
func losesFork(r model.Replica, ours, theirs model.Opening) bool {
	if a, b := ours.Own == r, theirs.Own == r; a != b {
		return a
	}
	a, b := ours.Tip(r), theirs.Tip(r)
	return cmp.Or(cmp.Compare(a.Dot.Seq, b.Dot.Seq), slices.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(ours.Own, theirs.Own)) < 0
}

// away tells whether one who knows k may hold what one with that horizon has
// collected.
func away(horizon, k model.VV) bool { return !horizon.LE(k) && len(horizon.Meet(k)) > 0 }

// lessForgotten orders horizons.
func lessForgotten(a, b model.VV) bool {
	sum := func(v model.VV) (n uint64) {
		for _, d := range v {
			n += d.Seq
		}
		return n
	}
	return cmp.Or(cmp.Compare(sum(a), sum(b)), slices.Compare(a.Encode(), b.Encode())) < 0
}

// Rekey makes this database a new replica: needed after it was restored from a
// copy where nobody could tell. It is always safe.
func (f *Folder) Rekey() error {
	err := f.update(func(t *index.Tx) error {
		f.rekey(t)
		return nil
	})
	return errors.Join(err, f.Sync())
}

const isCopy = "this database was restored from a copy, or copied: %s knows what it has not done. It goes on under another id"

// restored goes on as a new replica, since a peer knows what this one has not
// done, or has its name.
func (f *Folder) restored(t *index.Tx, peer string) {
	f.alarm(isCopy, peer)
	f.rekey(t)
}

func (f *Folder) rekey(t *index.Tx) {
	old := f.ix.Replica()
	t.Rekey(model.NewReplica(f.device()))
	f.log.Warn("this database goes on as a new replica", "was", old, "is", f.ix.Replica())
}

const maxAlarms = 16

// An Alarm is something that its user should hear of.
type Alarm struct {
	At   time.Time
	Text string
}

func (f *Folder) alarm(format string, args ...any) {
	a := Alarm{f.o.Now(), fmt.Sprintf(format, args...)}
	f.log.Error(a.Text)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.alarms); n > 0 && f.alarms[n-1].Text == a.Text {
		f.alarms = f.alarms[:n-1]
	}
	f.alarms = append(f.alarms, a)
	f.alarms = f.alarms[max(0, len(f.alarms)-maxAlarms):]
}

// Alarms are the last things that went wrong among members, since the start.
func (f *Folder) Alarms() []Alarm {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.alarms)
}

// admit checks a batch against what is here of its replica. New batches of our
// own replica are a proof that this database was restored.
func (f *Folder) admit(t *index.Tx, from string, h model.Header, b model.Batch, changes []model.Change) (known bool, err error) {
	m, marked, err := f.ix.Marked(model.Dot{Replica: h.Replica, Seq: h.Hi}, h.Lo)
	if err != nil {
		return false, err
	}
	if marked && !m.Said && m.Mark != model.MarkOf(h, b) {
		return false, fmt.Errorf("%w: replica %v has parted at %d", ErrAnew, h.Replica, h.Hi)
	}
	if ok, _ := t.Chained(h); !ok {
		return false, fmt.Errorf("%w: replica %v has parted before %d", ErrAnew, h.Replica, h.Lo)
	}
	if t.Has(h, changes) {
		return true, nil
	}
	if h.Replica == f.ix.Replica() { // when they meet anew, this is shown
		return false, fmt.Errorf("%w: replica %v is known to have done more", ErrAnew, h.Replica)
	}
	own := f.met[from].Own // who does not say who it is may be anybody
	return false, t.RoomForReplica(h, own == 0 || own.SameDevice(h.Replica))
}
