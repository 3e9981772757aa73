package model

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// named is one name of a tree.
type named struct {
	path string
	dir  *inode
	dent
}

func (w *world) pick(p *peer, x int) (out named) {
	var all []named
	p.tree.walk(func(path string, dir *inode, d dent) { all = append(all, named{path, dir, d}) })
	if len(all) == 0 {
		return named{}
	}
	return all[x%len(all)]
}

func (w *world) dir(p *peer, x int) (string, *inode) {
	paths, dirs := []string{""}, []*inode{p.tree.root}
	p.tree.walk(func(path string, _ *inode, d dent) {
		if d.to.kind == Dir {
			paths, dirs = append(paths, path), append(dirs, d.to)
		}
	})
	return paths[x%len(dirs)], dirs[x%len(dirs)]
}

func (w *world) content(p *peer, x int) string {
	w.contents++
	c := fmt.Sprint("x", w.contents)
	if x%8 == 0 {
		c = fmt.Sprint("same", x%16)
	}
	p.written[c] = true
	return c
}

// operate does one operation as a program would. One that fails changes
// nothing.
func (w *world) operate(p *peer, s step) {
	t := p.tree
	at, d := w.dir(p, s.x[0])
	name := w.names[s.x[1]%len(w.names)]
	e := w.pick(p, s.x[2])
	p.clock++
	to := at + "/" + name
	switch s.op {
	case "write":
		if i := t.at(d, name); i == nil || i.kind == File {
			c := w.content(p, s.x[3])
			w.say(p, "write %s %s", to, c)
			_ = t.write(d, name, c, p.mtime())
		}
		return
	case "mkdir":
		if t.mkdir(d, name) == nil {
			w.say(p, "mkdir %s", to)
		}
		return
	case "symlink":
		if t.at(d, name) == nil {
			c := w.content(p, s.x[3])
			w.say(p, "symlink %s %s", to, c)
			_ = t.symlink(d, name, c, p.mtime())
		}
		return
	}
	switch {
	case s.op == "mv dir":
		w.moveDir(p, s)
	case e.to == nil:
	case s.op == "edit" || s.op == "save" || s.op == "backup":
		w.replace(p, e, s)
	default:
		w.change(p, e, d, to, s)
	}
}

// change does what needs an entry, and perhaps a name in a directory to put it.
func (w *world) change(p *peer, e named, d *inode, to string, s step) {
	t, name := p.tree, to[strings.LastIndexByte(to, '/')+1:]
	switch s.op {
	case "rm":
		if t.remove(e.dir, e.name) == nil {
			w.say(p, "rm %s", e.path)
		}
	case "rm -r":
		w.say(p, "rm -r %s", e.path)
		_ = t.removeAll(e.dir, e.name)
	case "mv":
		if t.rename(e.dir, e.name, d, name) == nil {
			w.say(p, "mv %s %s", e.path, to)
		}
	case "swap":
		if o := w.pick(p, s.x[3]); t.exchange(e.dir, e.name, o.dir, o.name) == nil && o.to != e.to {
			w.say(p, "swap %s %s", e.path, o.path)
		}
	case "rotate":
		a, b := w.pick(p, s.x[3]), w.pick(p, s.x[4])
		if t.exchange(e.dir, e.name, a.dir, a.name) == nil {
			w.say(p, "swap %s %s", e.path, a.path)
		}
		// the paths may mean others now: by inode and name all the same
		if t.at(a.dir, a.name) != nil && t.at(b.dir, b.name) != nil && t.exchange(a.dir, a.name, b.dir, b.name) == nil {
			w.say(p, "swap of %s in dir %d, %s in dir %d", a.name, a.dir.ino, b.name, b.dir.ino)
		}
	case "ln":
		if t.link(e.to, d, name) == nil {
			w.say(p, "ln %s %s", e.path, to)
		}
	case "chmod":
		mode := []string{"\x01\xa4", "\x01\xed", "\x01\x80"}[s.x[3]%3]
		w.say(p, "chmod %s %o", e.path, binary.BigEndian.Uint16([]byte(mode)))
		t.setAttr(e.to, AttrMode, mode)
	case "xattr":
		k, v := []string{"user.k", "user.l"}[s.x[3]%2], []string{"", "=", "=1", "=2"}[s.x[4]%4]
		w.say(p, "xattr %s %s%q", e.path, k, v)
		t.setAttr(e.to, XattrTag+k, v)
	case "touch":
		w.say(p, "touch %s %d", e.path, s.x[3]%100)
		t.touch(e.to, int64(s.x[3]%100)*1e9)
	}
}

// moveDir moves a directory into another, or makes one.
func (w *world) moveDir(p *peer, s step) {
	var dirs []named
	p.tree.walk(func(path string, dir *inode, d dent) {
		if d.to.kind == Dir {
			dirs = append(dirs, named{path, dir, d})
		}
	})
	at, d := w.dir(p, s.x[0])
	name := w.names[s.x[1]%len(w.names)]
	if len(dirs) < 3 {
		if p.tree.mkdir(d, name) == nil {
			w.say(p, "mkdir %s/%s", at, name)
		}
		return
	}
	e := dirs[s.x[2]%len(dirs)]
	if p.tree.rename(e.dir, e.name, d, name) == nil {
		w.say(p, "mv %s %s/%s", e.path, at, name)
	}
}

// replace changes the content of a file in one of the ways of editors.
func (w *world) replace(p *peer, e named, s step) {
	t := p.tree
	if e.to.kind != File {
		return
	}
	c := w.content(p, s.x[3])
	switch s.op {
	case "edit":
		w.say(p, "write %s %s", e.path, c)
		_ = t.write(e.dir, e.name, c, p.mtime())
	case "save":
		w.say(p, "write %s.tmp %s; mv %s.tmp %s", e.path, c, e.path, e.path)
		if t.at(e.dir, e.name+".tmp") == nil {
			_ = t.write(e.dir, e.name+".tmp", c, p.mtime())
			_ = t.rename(e.dir, e.name+".tmp", e.dir, e.name)
		} else {
			delete(p.written, c)
		}
	case "backup":
		w.say(p, "mv %s %s~; write %s %s", e.path, e.path, e.path, c)
		if o := t.at(e.dir, e.name+"~"); (o == nil || o.kind == File) && o != e.to {
			_ = t.rename(e.dir, e.name, e.dir, e.name+"~")
			_ = t.write(e.dir, e.name, c, p.mtime())
			if s.x[4]%2 == 0 {
				w.say(p, "rm %s~", e.path)
				_ = t.remove(e.dir, e.name+"~")
			}
		} else {
			delete(p.written, c)
		}
	}
}
