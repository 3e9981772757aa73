package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
)

const (
	ringEvents = 1024
	maxHeard   = 1024                   // changes of files that wait to be told; of more the oldest are lost
	heardOnce  = 256                    // that are told at once: each costs a look at the rows
	heardAlone = 32                     // while nobody listens
	watchPause = 200 * time.Millisecond // between two looks
	watchIdle  = 15 * time.Second       // and where nothing is heard: some failures tell nobody
	lasts      = time.Second            // what is over before is not told: every save is only here for a moment
)

// A watch hears what happens, and tells clients of it in its own time.
type watch struct {
	events *control.Ring
	kick   chan struct{}

	mu    sync.Mutex // guards what follows; nothing is called while it is held
	heard []heard
	lost  uint64
}

type heard struct {
	f *folder
	c syncer.Change
}

func newWatch(start time.Time) *watch {
	return &watch{events: control.NewRing(ringEvents, uint64(start.UnixMicro())), kick: make(chan struct{}, 1)}
}

// wake says that something is otherwise than before.
func (w *watch) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// hear takes in what happened in a folder.
func (w *watch) hear(f *folder, changes []syncer.Change) {
	w.mu.Lock()
	for _, c := range changes[max(0, len(changes)-maxHeard):] {
		w.heard = append(w.heard, heard{f, c})
	}
	w.lost += uint64(max(0, len(changes)-maxHeard))
	if over := len(w.heard) - maxHeard; over > 0 {
		over = max(over, heardOnce) // some at a time: to close the gap takes time
		w.lost += uint64(over)
		w.heard = append(w.heard[:0], w.heard[over:]...)
	}
	w.mu.Unlock()
	w.wake()
}

// take returns what is to be told next, and whether that is not all.
func (w *watch) take() (list []heard, lost uint64, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := heardOnce
	if !w.events.Read() {
		n = heardAlone
	}
	n = min(len(w.heard), n)
	list, lost = slices.Clone(w.heard[:n]), w.lost
	w.heard = append(w.heard[:0], w.heard[n:]...)
	w.lost = 0
	return list, lost, len(w.heard) > 0
}

// runWatch tells clients what happens until ctx ends.
func (d *Daemon) runWatch(ctx context.Context) error {
	last := d.look()
	spans := spans{}
	for {
		list, lost, more := d.watch.take()
		now := time.Now()
		if lost > 0 {
			d.watch.events.Lose(now, lost)
		}
		next := d.look()
		events := differ(last, next)
		last = next
		for _, h := range list {
			if e, ok := d.fileEvent(h); ok && !slices.Contains(events, e) { // bytes and attributes of a file come one after the other
				events = append(events, e)
			}
		}
		lasting, waits := spans.step(next, now)
		if events = append(events, lasting...); len(events) > 0 {
			d.watch.events.Add(now, events...)
		}
		if more {
			d.watch.wake()
		}
		if err := d.watch.pause(ctx, waits); err != nil {
			return nil
		}
	}
}

// pause waits for news, or until what waits to be told is due.
func (w *watch) pause(ctx context.Context, waits bool) error {
	idle := watchIdle
	if waits {
		idle = lasts
	}
	t := time.NewTimer(watchPause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	t.Reset(idle)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	case <-w.kick:
	}
	return nil
}

// fileEvent says what happened to a file.
func (d *Daemon) fileEvent(h heard) (e control.Event, ok bool) {
	v := d.view(h.f)
	if v.core() == nil {
		return e, false
	}
	r, ok := v.core().Describe(h.c)
	e = control.Event{Folder: v.rec.Name, Path: r.Path, From: r.From, Dir: r.Dir, Author: r.By.Author, Device: r.By.Device}
	switch {
	case h.c.Deed == syncer.Removed && r.Conflict:
		e.Kind = control.EventResolved
	case h.c.Deed == syncer.Removed:
		e.Kind = control.EventRemoved
	case h.c.Deed == syncer.Renamed:
		e.Kind = control.EventRenamed
	case r.Conflict && h.c.At.Dir != 0:
		e.Kind = control.EventConflict
	case h.c.Here:
		e.Kind = control.EventChanged
	default:
		e.Kind = control.EventArrived
	}
	return e, ok
}

// A look is how everything is at one moment, as far as events tell of it.
type look struct {
	folders map[trust.FolderID]folderLook
	online  map[string]string // ids of members, with their names
}

type folderLook struct {
	name              string
	mounted           bool
	err               string
	members           map[string]string // by id
	syncing, onlyHere bool
}

func (d *Daemon) look() look {
	l := look{folders: map[trust.FolderID]folderLook{}, online: map[string]string{}}
	for _, f := range d.all() {
		v := d.view(f)
		x := folderLook{name: v.rec.Name, mounted: v.mounted(), members: map[string]string{}}
		if err := v.failure(); err != nil {
			x.err = err.Error()
		}
		s := share{}
		for _, m := range d.others(v) {
			x.members[m.ID] = cmp.Or(m.Label, m.ID)
			s.others = append(s.others, m.ID)
		}
		if core := v.core(); core != nil {
			s.known, s.acks = core.Knowledge(), core.Acks()
			x.syncing, x.onlyHere = core.Wanting(), !s.unheard() && s.onlyHere(core.Replica()) > 0
		}
		l.folders[v.grant.ID] = x
	}
	for _, p := range d.node.Peers() {
		if p.Online {
			l.online[p.ID] = cmp.Or(p.Name, p.ID)
		}
	}
	return l
}

// differ says what happened between two looks.
func differ(was, is look) (out []control.Event) {
	for _, id := range sortedFolders(was, is) {
		a, had := was.folders[id]
		b, has := is.folders[id]
		say := func(kind, text string) {
			out = append(out, control.Event{Kind: kind, Folder: cmp.Or(b.name, a.name), Text: text})
		}
		switch {
		case !has:
			say(control.EventLeft, "")
			continue
		case !had:
			say(control.EventAdded, "")
		}
		if b.mounted && !a.mounted {
			say(control.EventMounted, "")
		} else if a.mounted && !b.mounted {
			say(control.EventUnmounted, "")
		}
		if b.err != a.err && b.err != "" {
			say(control.EventError, b.err)
		} else if b.err != a.err {
			say(control.EventRecovered, "")
		}
		for _, p := range slices.Sorted(maps.Keys(b.members)) {
			if _, was := a.members[p]; had && !was {
				out = append(out, control.Event{Kind: control.EventJoined, Folder: b.name, Peer: b.members[p], PeerID: p})
			}
		}
		for _, p := range slices.Sorted(maps.Keys(a.members)) {
			if _, still := b.members[p]; !still {
				out = append(out, control.Event{Kind: control.EventGone, Folder: b.name, Peer: a.members[p], PeerID: p})
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(is.online)) {
		if _, was := was.online[p]; !was {
			out = append(out, control.Event{Kind: control.EventConnected, Peer: is.online[p], PeerID: p})
		}
	}
	for _, p := range slices.Sorted(maps.Keys(was.online)) {
		if _, still := is.online[p]; !still {
			out = append(out, control.Event{Kind: control.EventDisconnected, Peer: was.online[p], PeerID: p})
		}
	}
	return out
}

// sortedFolders is the folders of both looks, by name.
func sortedFolders(a, b look) []trust.FolderID {
	all := map[trust.FolderID]folderLook{}
	maps.Copy(all, a.folders)
	maps.Copy(all, b.folders)
	return slices.SortedFunc(maps.Keys(all), func(x, y trust.FolderID) int { return strings.Compare(all[x].name, all[y].name) })
}

// spans remembers for how long folders have been syncing, or had something only here.
type spans map[span]*spanState

type span struct {
	folder trust.FolderID
	begun  string // the kinds of the events
	ended  string
}

type spanState struct {
	since time.Time
	told  bool
}

// step says what has lasted for long enough to be told, and what of that is over; waits
// if something may have to be told soon.
func (s spans) step(l look, now time.Time) (out []control.Event, waits bool) {
	for _, id := range sortedFolders(l, look{}) {
		f := l.folders[id]
		for k, on := range map[span]bool{
			{id, control.EventSyncBegun, control.EventSyncFinished}: f.syncing,
			{id, control.EventOnlyHere, control.EventHeld}:          f.onlyHere,
		} {
			x := s[k]
			switch {
			case on && x == nil:
				s[k] = &spanState{since: now}
				waits = true
			case on && !x.told && now.Sub(x.since) >= lasts:
				x.told = true
				out = append(out, control.Event{Kind: k.begun, Folder: f.name})
			case on:
				waits = waits || !x.told
			case x != nil:
				if x.told {
					out = append(out, control.Event{Kind: k.ended, Folder: f.name})
				}
				delete(s, k)
			}
		}
	}
	for k := range s {
		if _, there := l.folders[k.folder]; !there {
			delete(s, k)
		}
	}
	return out, waits
}
