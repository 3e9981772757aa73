package syncer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/chunker"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Options are what a folder is opened with.
type Options struct {
	Disk     *blocks.Disk
	Number   uint32 // of the folder in this database, from 1
	ID       [32]byte
	Name     string
	Names    string     // name policy (model.FoldOf), fixed when the folder is founded; "": as it was then, at first bytes
	Key      blocks.Key // ids of blocks
	Seed     chunker.Seed
	Device   ed25519.PrivateKey            // signs what is done here
	Label    model.Label                   // author and device, as conflict copies name them
	Allowed  func(ed25519.PublicKey) error // whose changes count
	Remote   Remote
	UID, GID uint32 // own what others make
	ReadOnly bool
	// Joined says that others have made this folder: until one of them has told all
	// there is, nothing is said here.
	Joined bool
	// Place is where the database is: a fingerprint of the machine and of the
	// directory. If it is another than the last time, this is a copy. Empty: it
	// is not known.
	Place []byte
	Now   func() time.Time // the wall clock, for what is shown: labels and times; nil: time.Now
	// Unsure tells whether the wall clock is known not to be synchronised; nil: as
	// the kernel says.
	Unsure func() bool
	Log    *slog.Logger
	// Tell hears of what changed, and with none of what members have or of why the
	// folder stopped. It must not block, and may be called with the folder locked.
	Tell func([]Change)

	// History is kept for KeepDays, 30 if 0, while it takes at most KeepShare,
	// a tenth if 0, of the disk.
	KeepDays  int
	KeepShare float64
	Members   func() []string // the other members, as Acked calls them, if somebody knows
}

// A Folder is one shared tree on this device. Its methods are safe for
// concurrent use.
type Folder struct {
	o     Options
	seal  model.Seal
	disk  *blocks.Disk
	store *blocks.Store
	log   *slog.Logger

	// apply guards the index's writing side: whoever holds it is the one who
	// changes rows. It is held for rows and memory only.
	apply    sync.Mutex
	ix       *index.Index
	watching bool                // a look at the flip sets is due; guarded by apply
	met      map[string]meeting  // how the peers met have the folder; guarded by apply
	anchor   string              // who makes this member complete, while it is not; guarded by apply
	fed      time.Time           // when the anchor last gave something; guarded by apply
	by       model.Label         // whose batch is being joined; guarded by apply
	leftAt   map[nameAt]model.ID // what was at a name to which it was moved, and that is not cut; guarded by apply

	surf Surface // set before Run

	// mu guards what follows. It is taken after apply, never before.
	mu      sync.Mutex
	held    map[Ino]int
	going   map[Ino]bool         // let go of by the transaction that is under way
	waiting map[Ino]bool         // directories in which something waits for a file to be closed
	orphans map[Ino]nameAt       // without a name, deleted when released; where others took that, if they did
	taken   map[Ino]map[Ino]bool // of these, those that others took the name of, by its directory
	asides  map[nameAt]aside
	durable model.VV // of K, what is on disk
	lives   uint64   // how often it began anew
	alarms  []Alarm
	acks    map[string]Ack
	parted  map[string]bool      // who had another history of some replica when last met
	told    map[string]index.Ack // the last of each that was known here too, for collecting
	untold  map[string]bool      // those of told that are not in rows yet
	early   map[string]model.VV  // told by each since, and not all of it known here
	failed  error
	failing map[Ino]time.Time // files that could not be cut: when to try again
	parked  []Ino             // inodes whose bytes nobody connected had
	crammed map[Ino]bool      // those whose bytes there was no room for
	cramped bool              // and that was said
	parts   map[Ino]*part     // of files that are being fetched
	commits uint64            // so far
	counted counted
	gaps    index.Gaps // in the clock, as history grows old
	gapsAt  uint64     // commits when they were written down
	swept   bool       // at least once, when so many commits had been:
	sweptAt uint64
	doubled int64 // bytes that were stored and stand in files now, and of which so many more are swept:
	enough  int64

	fetched atomic.Uint64 // bytes of files

	guard   *guard
	pace    *pacer
	wants   *queue          // inodes whose bytes are to be fetched
	overdue chan struct{}   // flip sets may have waited for too long
	dirty   chan struct{}   // something is to be synced, within 5 s
	soon    chan struct{}   // somebody waits to hear that it is
	cuts    chan chan error // requests to cut at once
	spare   chan struct{}   // much is stored that stands in files
	lacks   chan lack       // blocks that cuts lacked; one too many is asked for later
}

// An Ack is what a peer says it has.
type Ack struct {
	K       model.VV // durable there
	Missing uint64   // blocks of it that it still lacks
}

// Open opens a folder. It starts nothing.
func Open(o Options) (*Folder, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Label = model.Label{Author: model.CleanLabel(o.Label.Author), Device: model.CleanLabel(o.Label.Device)}
	if o.Remote == nil {
		o.Remote = offline{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Unsure == nil {
		o.Unsure = unsynchronised
	}
	ix, err := index.Open(o.Disk.Meta(), o.Number, o.Names, o.UID, o.GID)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", o.Name, err)
	}
	f := &Folder{o: o, disk: o.Disk, store: o.Disk.Store(o.Number, o.Key), ix: ix, log: o.Log.With("folder", o.Name),
		seal: model.Seal{Folder: o.ID, Key: [32]byte(o.Key)},
		held: map[Ino]int{}, going: map[Ino]bool{}, waiting: map[Ino]bool{}, orphans: map[Ino]nameAt{}, taken: map[Ino]map[Ino]bool{}, durable: ix.K(), acks: map[string]Ack{}, parted: map[string]bool{}, untold: map[string]bool{}, early: map[string]model.VV{},
		met:   map[string]meeting{},
		guard: newGuard(), pace: newPacer(), wants: newQueue(), overdue: make(chan struct{}, 1), dirty: make(chan struct{}, 1), soon: make(chan struct{}, 1), cuts: make(chan chan error),
		enough: spareMost, spare: make(chan struct{}, 1), failing: map[Ino]time.Time{}, crammed: map[Ino]bool{}, parts: map[Ino]*part{}, lacks: make(chan lack, 64)}
	if f.told, err = ix.Acks(); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", o.Name, err)
	}
	if f.gaps, err = ix.Gaps(); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", o.Name, err)
	}
	ix.SetSeal(f.seal)
	ix.SetClock(o.Now)
	if err := errors.Join(f.firstLook(), f.settleIn()); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", o.Name, err)
	}
	return f, nil
}

// device is the key that this device is known by.
func (f *Folder) device() ed25519.PublicKey { return f.o.Device.Public().(ed25519.PublicKey) }

// settleIn gives a database a replica of its own if it is new, in another place
// than the last time, or of another device.
func (f *Folder) settleIn() error {
	t := f.ix.Begin()
	moved := len(f.o.Place) > 0 && t.MovedTo(f.o.Place)
	switch own := f.ix.Replica(); {
	case own == 0:
		t.Rekey(model.NewReplica(f.device()))
		if f.o.Joined {
			t.SetNewcomer(false)
		}
	case moved || !own.Of(f.device()):
		f.alarm("this database was moved or is a copy: it goes on under another id")
		f.rekey(t)
	}
	if err := t.Commit(); err != nil {
		return err
	}
	return f.disk.Sync()
}

// SetSurface gives the folder what shows it, before Run.
func (f *Folder) SetSurface(s Surface) {
	f.surf = s
	if src, ok := s.(blocks.Source); ok {
		f.store.SetSource(src)
	}
}

// ID names the folder on all peers.
func (f *Folder) ID() [32]byte { return f.o.ID }

// Name is what its user calls it here.
func (f *Folder) Name() string { return f.o.Name }

// Store holds the folder's blocks.
func (f *Folder) Store() *blocks.Store { return f.store }

// Policy is the folder's name policy.
func (f *Folder) Policy() string { return f.ix.Policy() }

// ReadOnly tells whether local changes are refused.
func (f *Folder) ReadOnly() bool { return f.o.ReadOnly }

// Run cuts, fetches, publishes and syncs until ctx ends. Before it returns,
// everything is durable, and what is closed is cut as far as 20 s allow: the
// rest is cut at the next start.
func (f *Folder) Run(ctx context.Context) error {
	if err := f.disk.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := f.recover(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.runCutter(ctx) })
	g.Go(func() error { return f.runLender(ctx) })
	g.Go(func() error { return f.runPuller(ctx) })
	g.Go(func() error { return f.runSyncer(ctx) })
	g.Go(func() error { return f.runExpirer(ctx) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(err, f.cutLast(stop), f.saveAcks(), f.Sync())
}

// recover takes up the work that the last run left.
func (f *Folder) recover() error {
	return f.update(func(t *index.Tx) error {
		t.Regroup()
		f.watchSets()
		f.ix.Names(func(dir Ino, _ string, y index.Drift) {
			if y.Ours {
				f.pace.note(dir, time.Now(), false)
			}
		})
		f.ix.AllBytes(func(ino Ino, w index.Bytes) {
			if !w.Ours {
				f.wants.add(ino)
			} else if r := t.Row(ino); r != nil {
				f.pace.note(r.Parent, time.Now(), false)
			}
		})
		return t.Err()
	})
}

// update runs fn in a transaction under the apply lock. fn checks everything
// before it changes anything.
func (f *Folder) update(fn func(t *index.Tx) error) error {
	var flips []Flip
	err := f.locked(func() (err error) {
		if err := f.broken(); err != nil {
			return err
		}
		t := f.ix.Begin()
		defer func() { f.by = model.Label{} }()
		if err := fn(t); err != nil {
			if t.Err() != nil { // what is in memory may be ahead of the rows
				f.stop(t.Err())
			}
			t.Abort()
			return err
		}
		flips, err = f.commit(t)
		return err
	})
	f.show(flips)
	return err
}

// locked runs fn under the apply lock. A panic in it stops the folder: nobody can
// tell what of memory is ahead of the rows then. Its reads go on.
func (f *Folder) locked(fn func() error) (err error) {
	f.apply.Lock()
	defer f.apply.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrBug, p)
			f.log.Error("bug in a change of the folder", "panic", p, "stack", string(debug.Stack()))
			f.stop(err)
		}
	}()
	return fn()
}

// commit ends a transaction. A failure stops the folder: what is in memory may
// be ahead of the rows.
func (f *Folder) commit(t *index.Tx) ([]Flip, error) {
	if err := f.lookAtJump(); err != nil {
		t.Fail(err)
	}
	f.letGo(t)
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		clear(f.going)
	}()
	flips := t.Flips()
	for _, ino := range t.Fresh() {
		f.wants.add(ino)
	}
	for _, dir := range t.Owed() {
		f.pace.note(dir, time.Now(), true)
	}
	if err := t.Commit(); err != nil {
		f.stop(err)
		return nil, err
	}
	f.mu.Lock()
	f.commits++
	f.mu.Unlock()
	select {
	case f.dirty <- struct{}{}:
	default:
	}
	out := make([]Flip, len(flips))
	for i, x := range flips {
		out[i] = Flip(x)
	}
	if len(out) > 0 && f.o.Tell != nil {
		f.tell(flipped(out, f.by))
	}
	return out, nil
}

// stop lets nothing more be done to the folder.
func (f *Folder) stop(err error) {
	f.mu.Lock()
	f.failed = fmt.Errorf("folder %s stopped: %w (restart the daemon; if it comes again: clachan db check)", f.o.Name, err)
	f.mu.Unlock()
	f.log.Error("folder stopped", "err", err)
	f.tell(nil)
}

func (f *Folder) broken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Err is what stopped the folder, nil while it works.
func (f *Folder) Err() error { return f.broken() }

func (f *Folder) show(flips []Flip) {
	if len(flips) > 0 && f.surf != nil {
		f.surf.Shown(flips)
	}
}

// Sync returns when everything done before is durable. Many callers share one
// sync of the disk. A folder that has stopped says nothing: what is in memory may
// never have been written, and its dots will be given out again.
func (f *Folder) Sync() error {
	k, life, err := f.known()
	if err != nil {
		return err
	}
	if err := f.disk.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	f.disk.Short() // wakes the expirer, if it is
	if now, grown := f.synced(k, life); grown {
		f.o.Remote.Announce(now)
	}
	return nil
}

// known is all that has been joined, and in which life.
func (f *Folder) known() (k model.VV, life uint64, err error) {
	f.apply.Lock()
	defer f.apply.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ix.K(), f.lives, f.failed
}

// synced notes that what was known is durable, and says whether more is than was.
func (f *Folder) synced(k model.VV, life uint64) (now model.VV, grown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if life != f.lives { // k was of the time before
		return nil, false
	}
	grown = !k.LE(f.durable)
	f.durable = f.durable.Join(k)
	f.hear()
	return f.durable, grown
}

// syncSoon asks for what others sent to be made durable, so that they can be
// told. What comes in the meantime shares one sync.
func (f *Folder) syncSoon() {
	select {
	case f.soon <- struct{}{}:
	default:
	}
}

// runSyncer makes durable what nobody asks to be, within 5 s.
func (f *Folder) runSyncer(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.dirty:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(4 * time.Second):
			case <-f.soon:
			}
		case <-f.soon:
		}
		if err := f.Sync(); err != nil {
			f.log.Error("sync", "err", err)
		}
	}
}

// Hold keeps an inode while it is known to programs: unlinked, it lives on, and
// others who have moved the file bring it back under another number. So a surface
// holds what it takes the last name of, and forgets what was written to it before
// it releases it: else bytes that no row tells of are shown when it comes back.
// Held tells whether it was in time.
func (f *Folder) Hold(ino Ino) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[ino]++
}

// Held is Attr for an inode that was found, and then held. It is ErrNotExist if
// it was let go of in between.
func (f *Folder) Held(ino Ino) (Attr, error) {
	f.mu.Lock()
	going := f.going[ino]
	f.mu.Unlock()
	if going { // when that is done, its row tells
		f.apply.Lock()
		f.apply.Unlock() //lint:ignore SA2001 nothing but the wait is wanted
	}
	return f.Attr(ino)
}

// Release undoes one Hold.
func (f *Folder) Release(ino Ino) {
	f.mu.Lock()
	f.held[ino]--
	gone := false
	if f.held[ino] <= 0 {
		delete(f.held, ino)
		_, gone = f.orphans[ino]
	}
	f.mu.Unlock()
	if gone {
		f.dropOrphan(ino)
	}
}

// dropOrphan deletes a file without a name, unless somebody holds it again.
func (f *Folder) dropOrphan(ino Ino) {
	err := f.update(func(t *index.Tx) error {
		f.mu.Lock()
		_, gone := f.orphans[ino]
		if gone = gone && f.held[ino] == 0; gone {
			f.named(ino)
			f.going[ino] = true
		}
		f.mu.Unlock()
		if gone {
			t.DropOrphan(ino)
		}
		return nil
	})
	if err != nil {
		f.log.Error("delete unlinked inode", "err", err)
	}
}

// letGo deletes what has lost its last name, unless somebody holds it.
func (f *Folder) letGo(t *index.Tx) {
	for _, ino := range t.Lost() {
		at, _ := t.Taken(ino)
		f.mu.Lock()
		held := f.held[ino] > 0
		if _, is := f.orphans[ino]; held && (!is || at.Dir != 0) {
			f.orphan(ino, at)
		}
		f.going[ino] = !held
		f.mu.Unlock()
		if held {
			t.Orphan(ino)
		} else {
			t.DropOrphan(ino)
		}
	}
}
