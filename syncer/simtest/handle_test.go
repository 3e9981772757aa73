package simtest

import (
	"errors"
	"slices"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A handle is an open file.
type handle struct {
	m      *machine
	n      int // in order of opening
	ino    syncer.Ino
	path   string
	writes bool
	t      *text // what was written last
	closed bool
}

// open opens a file, and makes it if create says so.
func (m *machine) open(path string, writes, create, excl bool) (*handle, error) {
	if create {
		m.w.memory.give(path)
	}
	dir, name, err := m.walk(path)
	var a syncer.Attr
	if err == nil {
		a, err = m.f.Lookup(dir, name)
		if errors.Is(err, syncer.ErrNotExist) && create {
			a, err = m.f.Create(dir, name, syncer.New{Kind: model.File, Mode: 0o644})
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
	m.s.open(a.Ino, writes)
	m.f.Hold(a.Ino)
	h := &handle{m: m, n: m.w.ops, ino: a.Ino, path: path, writes: writes}
	m.w.handles[h] = true
	return h, nil
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
	if err := m.stage(h.ino, data, dirty, base, now); err != nil {
		return err
	}
	if before != t {
		before.consume(m, t)
	}
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
	err := m.f.Dirty(ino, syncer.DirtyState{Gen: gen, Base: on.Orig, Open: true, Size: int64(len(data)), Alloc: int64(len(data)),
		Mtime: now, Ctime: now, Data: data, Whole: true})
	if _, still := m.s.peek(ino); err == nil && !still { // cut in between: the row came too late
		err = m.f.Clean(ino)
	}
	return err
}

// sync is fsync.
func (h *handle) sync() error {
	h.done()
	return h.m.sync()
}

// done says that what was written is to stay. If the name went to another file
// meanwhile, nobody will see it again.
func (h *handle) done() {
	if h.t == nil {
		return
	}
	if a, err := h.m.f.Attr(h.ino); err == nil && a.Nlink > 0 {
		h.t.keep()
	} else {
		h.t.excused = true
	}
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
