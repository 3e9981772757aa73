package syncer_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	. "github.com/clachanfs/clachan/syncer"
)

// What takes more than its share of time when there is more of it is looked for
// here: each has the figures for some sizes, which should grow as these do.
//
//	go test ./syncer -run - -bench 'Apart|Moves|HardLinks|HangTogether' -benchtime 1x

// measured runs what is measured once for each b.N, and reports the seconds of
// processor time of its parts.
func measured(b *testing.B, do func(part func(name string, f func()))) {
	for range b.N {
		do(func(name string, f func()) {
			begin := cpu(b)
			f()
			b.ReportMetric((cpu(b) - begin).Seconds(), name+"-s")
		})
	}
	b.ReportMetric(0, "ns/op")
}

// cpu is the processor time that this process has had.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApart edits the same files of one directory at two peers that are
// apart; they meet; then all is written again.
func BenchmarkApart(b *testing.B) {
	for _, n := range []int{50, 100, 200, 400, 1000, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			measured(b, func(part func(string, func())) {
				w := newWorld(b, 2)
				x, y := w.peers[0], w.peers[1]
				x.mkdir("/d")
				write := func(p *peer, s string) {
					for i := range n {
						p.write(fmt.Sprint("/d/f", i), fmt.Sprint(s, i))
					}
				}
				write(x, "one")
				w.settle()
				w.part(true)
				for _, p := range w.peers {
					write(p, p.name)
					p.cutNow()
				}
				w.talk.Lock()
				w.cut.Store(false)
				part("join", func() { w.joins(x, y) })
				w.talk.Unlock()
				w.part(true)
				part("cut", func() {
					write(y, "again")
					y.cutNow()
				})
			})
		})
	}
}

// joins lets one take in all that another has.
func (w *world) joins(from, to *peer) {
	w.t.Helper()
	ctx := context.Background()
	if !w.meet(ctx, from, to) {
		w.t.Fatal("they do not meet")
	}
	w.send(ctx, from, to)
}

// BenchmarkMoves moves directories at a peer that is apart while another makes
// files, and joins that.
func BenchmarkMoves(b *testing.B) {
	for _, n := range []int{50, 100, 200, 400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			measured(b, func(part func(string, func())) {
				w := newWorld(b, 2)
				x, y := w.peers[0], w.peers[1]
				x.mkdir("/to")
				for i := range n {
					x.mkdir(fmt.Sprint("/d", i))
				}
				w.settle()
				w.part(true)
				for i := range n {
					x.mv(fmt.Sprint("/d", i), fmt.Sprint("/to/d", i))
				}
				x.cutNow()
				for i := range 3000 {
					y.write(fmt.Sprint("/f", i), "f")
				}
				y.cutNow()
				w.talk.Lock()
				w.cut.Store(false)
				part("join", func() { w.joins(x, y) })
				w.talk.Unlock()
			})
		})
	}
}

// BenchmarkHardLinks gives a file names, and takes them all away.
func BenchmarkHardLinks(b *testing.B) {
	for _, n := range []int{75, 150, 300, 600, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			measured(b, func(part func(string, func())) {
				w := newWorld(b, 2)
				p := w.peers[0]
				p.write("/f", "f")
				ino := p.stat("/f").Ino
				part("links", func() {
					for i := range n {
						_, err := p.Link(ino, RootIno, fmt.Sprintf("%0250d", i))
						p.must(err)
					}
					p.cutNow()
				})
				part("join", w.settle)
				w.part(true)
				part("unlinks", func() {
					for i := range n {
						p.rm(fmt.Sprintf("/%0250d", i))
					}
					p.cutNow()
				})
			})
		})
	}
}

// BenchmarkRenamesThatHangTogether moves all names of a directory on by one, as a
// script renumbers pictures, and cuts that.
func BenchmarkRenamesThatHangTogether(b *testing.B) {
	for _, n := range []int{1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			measured(b, func(part func(string, func())) {
				a := newWorld(b, 1).peers[0]
				for i := range n {
					a.write(fmt.Sprintf("/img%05d", i), fmt.Sprint(i))
				}
				a.cutNow()
				part("rename", func() {
					for i := n - 1; i >= 0; i-- {
						a.mv(fmt.Sprintf("/img%05d", i), fmt.Sprintf("/img%05d", i+1))
					}
					a.cutNow()
				})
			})
		})
	}
}
