package simtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/clachanfs/clachan/syncer/model"
)

// What the villain says a lot of: each change is one that is allowed, and what
// they come to is what honest members must show, cut and give up again. Users
// then work on the file that it was about.

const (
	crowdMost = 300 // nodes of one name in one directory, in one simulation twice
	floodMost = 250 // attributes in one batch
	linksMost = 300 // names of one file in one batch
)

// A guise is whom the villain says that it is, and when.
type guise struct {
	author, device string
	utc            int64
}

// hordes are the ways in which it says a lot.
var hordes = []func(*deed) string{(*deed).crowd, (*deed).flood, (*deed).flood, (*deed).names, (*deed).names}

// crowd makes hundreds of nodes of one name in one directory, as of several who
// made them in the same second: what they are called instead tells them apart by
// a number alone.
func (d *deed) crowd() string {
	if d.crowds++; d.crowds > 2 {
		return "no crowd any more"
	}
	parent := model.RootID
	if d.n.Kind == model.Dir && d.r.IntN(2) == 0 {
		parent = d.n.ID
	}
	name := []string{"a", "doc.odt", "c.txt", strings.Repeat("n", 250) + ".txt"}[d.r.IntN(4)]
	now, kinds := time.Now().Unix(), []model.Kind{model.File, model.File, model.File, model.Dir}
	left := crowdMost/3 + d.r.IntN(2*crowdMost/3)
	for i, m := range d.w.ms[:min(len(d.w.ms), 3)] {
		d.guise = &guise{"u" + m.name, m.name, now}
		for range left / 3 {
			c := d.file(name, parent)
			if c.Kind = kinds[d.r.IntN(len(kinds))]; c.Kind == model.Dir {
				c.Version.Content = ""
			}
			c.ID, c.Born = model.BirthID(parent, name, c.Kind, 1+i<<16|d.w.oracle.next()&0xffff), true
			c.Version.Mtime = now*1e9 + int64(d.r.IntN(2))
			d.add(c)
		}
		d.send()
	}
	d.guise = nil
	d.w.count("crowds of one name", 1)
	return fmt.Sprintf("a crowd of %d called %.20s in %v", left, name, parent)
}

// on makes a file of others the bait, and tells which; false: there is none.
func (d *deed) on() bool {
	var files []*model.Node
	for _, n := range d.all {
		if n.Kind == model.File && !d.ghostly(n) && d.held.path(n.ID) != "" {
			files = append(files, n)
		}
	}
	if len(files) == 0 {
		return false
	}
	d.n = files[d.r.IntN(len(files))]
	for _, n := range files { // again the same, if it is there
		if d.w.bait == d.held.path(n.ID) {
			d.n = n
		}
	}
	d.w.bait = d.held.path(d.n.ID)
	d.loosen(d.n)
	return true
}

// path is where a node is, as far as its own name and those above say; "": nowhere.
func (h holding) path(id model.ID) string {
	out := ""
	for range 20 {
		if id == model.RootID {
			return out
		}
		n := h.nodes[id]
		if n == nil || !h.alive[id] {
			return ""
		}
		l := n.Link(model.PrimaryKey)
		if l == nil || l.Dead() {
			return ""
		}
		out = "/" + l.Loc().Name + out
		id = l.Loc().Parent
	}
	return ""
}

// flood gives a file hundreds of attributes, in several batches.
func (d *deed) flood() string {
	if !d.on() {
		return "no file to flood"
	}
	batches := 1 + d.r.IntN(3)
	for b := range batches {
		c := d.change()
		for i := range floodMost/2 + d.r.IntN(floodMost/2) {
			c.Attrs = append(c.Attrs, model.AttrChange{Name: fmt.Sprintf("%suser.%d", model.XattrTag, i+b*floodMost),
				Val: "=" + strings.Repeat("evil", d.r.IntN(20))})
		}
		d.add(c)
		d.send()
	}
	d.w.count("floods of attributes", 1)
	return fmt.Sprintf("%d batches of attributes for %s", batches, d.w.bait)
}

// names gives a file hundreds of names, or takes those it has.
func (d *deed) names() string {
	if !d.on() {
		return "no file to name"
	}
	c := d.change()
	if len(d.n.Links) > linksMost/4 && d.r.IntN(2) == 0 {
		for _, l := range d.n.Links {
			if l.Key != model.PrimaryKey && !l.Dead() {
				c.Links = append(c.Links, model.LinkChange{Key: l.Key, Removed: true})
			}
		}
		d.add(c)
		return fmt.Sprintf("takes %d names of %s", len(c.Links), d.w.bait)
	}
	parent := model.RootID
	if d.other.Kind == model.Dir && d.r.IntN(2) == 0 {
		parent = d.other.ID
	}
	for i := range linksMost/3 + d.r.IntN(2*linksMost/3) {
		name := fmt.Sprint("name ", i)
		if i < len(names) {
			name = names[i]
		}
		c.Links = append(c.Links, model.LinkChange{Key: 1 + d.r.Uint64N(1<<40), Parent: parent, Name: name})
	}
	d.add(c)
	d.w.count("files of many names", 1)
	return fmt.Sprintf("%d names for %s in %v", len(c.Links), d.w.bait, parent)
}
