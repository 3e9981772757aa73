package simtest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A handle is an open file.
type handle struct {
	m      *machine
	n      int         // in order of opening
	proc   syncer.Proc // who has opened it
	ino    syncer.Ino
	path   string
	writes bool
	t      *text // what was written last
	mapped bool  // it writes by pages
	closed bool
}

// open opens a file, and makes it if create says so. What is there, its program
// reads.
func (m *machine) open(path string, writes, create, excl bool) (*handle, error) {
	return m.openFor(path, writes, create, excl, true)
}

// openUnread opens a file to write it anew, without a look at what is there.
func (m *machine) openUnread(path string) (*handle, error) {
	return m.openFor(path, true, true, false, false)
}

func (m *machine) openFor(path string, writes, create, excl, reads bool) (*handle, error) {
	if create {
		m.w.memory.give(path)
	}
	if writes {
		m.w.groups.touch(m, path)
	}
	dir, name, err := m.walk(path)
	var a syncer.Attr
	fresh := false
	if err == nil {
		a, err = m.f.Lookup(dir, name)
		if errors.Is(err, syncer.ErrNotExist) && create {
			a, err = m.f.Create(dir, name, syncer.New{Kind: model.File, Mode: 0o644, By: m.proc})
			fresh = true
		} else if err == nil && excl {
			err = syncer.ErrExist
		}
	}
	if err == nil && a.Kind != model.File {
		err = syncer.ErrInvalid
	}
	if err = m.did(err, "open %s", path); err != nil {
		return nil, err
	}
	h := m.hold(a.Ino, path, writes)
	m.s.been(a.Ino, place{dir, name})
	if fresh {
		m.s.saw(m.proc, a.Ino, nil)
		m.dates(a)
		return h, nil
	}
	seen, stale := m.f.Opened(a.Ino, m.proc, reads)
	if stale {
		m.w.say("%s: process %d knows version %v of %s", m.name, m.proc, seen, path)
	}
	if writes {
		m.s.know(a.Ino, seen, stale)
	}
	if reads {
		h.reads(a)
	}
	return h, nil
}

// dates counts files that are dated by a clock that has jumped.
func (m *machine) dates(a syncer.Attr) {
	right := time.Now().AddDate(0, 0, m.w.days)
	if off := right.Sub(time.Unix(0, a.Mtime)); off.Abs() > 24*time.Hour {
		m.w.count("files made by clocks that jumped", 1)
	}
}

// reads notes what who opens a file sees: an open file keeps its bytes.
func (h *handle) reads(a syncer.Attr) {
	t, err := h.m.seen(a)
	if err != nil {
		h.m.s.lost(h.proc, h.ino)
		return
	}
	h.m.s.saw(h.proc, h.ino, t)
}

func (m *machine) hold(ino syncer.Ino, path string, writes bool) *handle {
	m.s.open(ino, writes)
	m.f.Hold(ino)
	h := &handle{m: m, n: m.w.ops, proc: m.proc, ino: ino, path: path, writes: writes}
	m.w.handles[h] = true
	return h
}

// tmpfile opens a new file that has no name.
func (m *machine) tmpfile() (*handle, error) {
	a, err := m.f.Tmpfile(syncer.New{Kind: model.File, Mode: 0o644, By: m.proc})
	if err = m.did(err, "tmpfile"); err != nil {
		return nil, err
	}
	m.s.saw(m.proc, a.Ino, nil)
	m.s.goes(a.Ino, true)
	return m.hold(a.Ino, fmt.Sprint("inode ", a.Ino), true), nil
}

// link gives an open file a name.
func (h *handle) link(to string) error {
	m := h.m
	m.w.groups.touch(m, to)
	m.w.memory.give(to)
	flips := m.s.flipped()
	dir, name, err := m.walk(to)
	if err == nil {
		_, err = m.f.Link(h.ino, dir, name)
		if err == nil {
			m.s.goes(h.ino, false)
			m.s.been(h.ino, place{dir, name})
		}
		err = m.proven(err, flips, "link "+to, func() error { return m.shows(dir, name, isIno(h.ino)) })
	}
	return m.did(err, "link inode %d %s", h.ino, to)
}

// A view is what a program reads of an open file.
type view struct {
	data   []byte
	writes int // of programs here, so far
}

func (h *handle) look() (v view, err error) {
	still(func() {
		v.data, err = h.m.read(h.ino)
		v.writes = h.m.s.written(h.ino)
	})
	return v, err
}

// write puts b at off; off < 0 is the end. The file is cut to size first if
// that is not negative.
func (h *handle) write(off, size int64, b []byte) error {
	err := h.put(off, size, b)
	return h.m.did(err, "write %d bytes at %d of %s", len(b), off, h.path)
}

func (h *handle) put(off, size int64, b []byte) error {
	m := h.m
	var old []byte
	var base syncer.Version
	var err error
	still(func() {
		if old, err = m.read(h.ino); err == nil {
			base, err = m.f.Content(h.ino)
		}
	})
	if err != nil {
		return err
	}
	was := int64(len(old))
	data := slices.Clone(old)
	var dirty []content.Range
	if size >= 0 && size < was {
		data = data[:size]
		dirty = append(dirty, content.Range{Off: size, Len: was - size})
	}
	if off < 0 {
		off = int64(len(data))
	}
	if end := off + int64(len(b)); end > int64(len(data)) {
		dirty = append(dirty, content.Range{Off: int64(len(data)), Len: end - int64(len(data))})
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[off:], b)
	dirty = append(dirty, content.Range{Off: off, Len: int64(len(b))})
	var before *text
	if was > 0 {
		before = m.w.oracle.recognize(m, old, h.path)
	}
	t := m.w.oracle.write(m, data, h.path)
	now := m.now().UnixNano()
	if f := m.saves; f != nil && before != nil {
		m.saves = nil
		m.d.crashIn(1+f.n/3%6, f.share)
	}
	m.s.overwrite(h.ino, h.mapped)
	if h.mapped {
		m.w.count("saves of mapped pages", 1)
	}
	named := func() bool { a, err := m.f.Attr(h.ino); return err == nil && a.Nlink > 0 }
	had := named()
	if err := m.stage(h.ino, data, dirty, base, now); err != nil {
		return err
	}
	if !had && named() {
		m.w.count("files given back to their writers", 1)
	}
	if before != t {
		m.supersede(h.proc, h.ino, before, t, "stale overwrites")
	}
	m.s.wrote(h.proc, h.ino, t)
	m.w.say("%s: %v", m.name, t)
	h.t = t
	if !h.writes {
		panic("written without the right to")
	}
	return nil
}

// stage gives the screen and the folder the bytes of a file.
func (m *machine) stage(ino syncer.Ino, data []byte, dirty []content.Range, base syncer.Version, now int64) error {
	gen, on := m.s.put(ino, data, dirty, base, now)
	if data == nil {
		data = []byte{}
	}
	d := syncer.DirtyState{Gen: gen, Base: m.s.basis(ino, on.Orig), Open: true, Size: int64(len(data)), Alloc: int64(len(data)),
		Mtime: now, Ctime: now, Data: data}
	if len(data) > inline {
		m.aside(&d)
	}
	err := m.f.Dirty(ino, d)
	if _, still := m.s.peek(ino); err == nil && !still { // cut in between: the row came too late
		err = m.f.Clean(ino)
	}
	return err
}

// inline is up to which size staged bytes are in rows.
const inline = 8192

// aside stages bytes beside the rows. What is written there is durable before a
// row tells of it; the row finds it by the number of the write.
func (m *machine) aside(d *syncer.DirtyState) {
	if m.spool == nil {
		m.spool = map[int64][]byte{}
	}
	d.Alloc = int64(m.w.oracle.next())
	m.spool[d.Alloc] = d.Data
	d.Data = nil
	m.w.count("files staged aside", 1)
}

// unspool finds the bytes that were staged beside the rows.
func (m *machine) unspool(d syncer.DirtyState) syncer.DirtyState {
	if b, ok := m.spool[d.Alloc]; ok && d.Data == nil {
		d.Data = b
	}
	return d
}

// sync is fsync.
func (h *handle) sync() error {
	h.done()
	err := h.m.sync()
	if err == nil && h.writes {
		h.m.s.sync(h.ino)
		h.m.f.Synced(h.ino)
	}
	return err
}

// done says that what was written is to stay. If a user here has removed the file
// meanwhile, nobody will see it again; if others have, it is there again.
func (h *handle) done() {
	if h.t == nil {
		return
	}
	a, err := h.m.f.Attr(h.ino)
	if err == nil && a.Nlink > 0 {
		h.t.keep()
		return
	}
	if err == nil && h.m.s.strays(h.ino) {
		h.m.w.fail("I3", "%s: others have taken the file from who writes %v", h.m.name, h.t)
	}
	h.t.excused = true
}

func (h *handle) close() {
	if h.closed {
		return
	}
	h.closed = true
	m := h.m
	delete(m.w.handles, h)
	m.s.close(h.ino, h.writes)
	h.done()
	m.f.Closed(h.ino)
	m.letGo(h.ino)
	_ = m.did(nil, "close %s", h.path)
}
