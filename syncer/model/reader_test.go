package model

// A reader's tree may be changed like any other, but nothing of it is cut: what
// was done there is taken back, or told in the end.

// settleReaders lets every reader take back what it did, or become a writer.
func (w *world) settleReaders(promote bool) {
	for _, p := range w.peers {
		if !p.reader {
			continue
		}
		for _, q := range w.peers {
			if q.k.Get(p.r) > 0 {
				w.fail("reader", "p%d knows of p%d, who only reads", q.r, p.r)
			}
		}
		kept := map[string]bool{}
		p.tree.each(p.tree.root, func(_ *inode, _ string, d dent) { kept[d.to.content] = true })
		for _, c := range sortedKeys(p.written) {
			if !kept[c] && !p.consumed[c] {
				w.fail("reader", "%s, not told yet, is lost to what others did\n%s", c, p.tree.list())
			}
		}
		if promote {
			w.say(p, "is a writer now")
			p.reader = false
			p.rescue()
			p.tree.follow(p.m)
			w.cut(p)
			continue
		}
		w.say(p, "takes back what it did")
		p.revert()
		if got, want := p.tree.list(), p.list(); !got.equal(want) {
			w.fail("reader", "taken back: tree\n%sview\n%s", got, want)
		}
		w.checkTree(p)
	}
}

// revert makes the tree show what the others agreed on. What was written here
// is gone, and what was done away with here was not.
func (p *peer) revert() {
	for _, i := range p.tree.byID {
		i.clean()
		i.unlinked = false
	}
	p.tree.each(p.tree.root, func(_ *inode, _ string, d dent) { d.to.clean() })
	clear(p.tree.drift)
	p.tree.follow(p.m)
	clear(p.written)
	clear(p.consumed)
}
