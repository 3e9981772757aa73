package syncer_test

import (
	"context"
	"fmt"
	mrand "math/rand"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// bytesOf reads a version of the history.
func (p *peer) bytesOf(x index.Past) string {
	p.t.Helper()
	if x.Kind == model.Symlink {
		return "-> " + x.Content
	}
	c, err := content.Decode(x.Content)
	p.must(err)
	b := make([]byte, c.Size)
	if len(b) > 0 {
		if _, err := content.NewReader(p.Blocks(), c).ReadAt(context.Background(), b, 0); err != nil {
			p.t.Fatalf("%s: version %v of %s: %v", p.name, x.Orig, x.Path, err)
		}
	}
	return string(b)
}

// past lists the versions that a file has had, the newest first.
func (p *peer) past(path string) (out []index.Past) {
	p.t.Helper()
	p.must(p.History(p.stat(path).Ino, func(x index.Past) bool { out = append(out, x); return true }))
	return out
}

func (p *peer) deleted() (out []index.Past) {
	p.t.Helper()
	p.must(p.Folder.Deleted(func(x index.Past) bool { out = append(out, x); return true }))
	return out
}

// However an editor saves, all that a file once held is its history, on each
// member: of one file, in order, and there is never a conflict copy.
func TestSavesLeaveTheirHistoryUnderOneFile(t *testing.T) {
	patterns := map[string]func(p *peer, data string){
		"truncate and write": func(p *peer, data string) { p.write("/doc", data) },
		"atomic replace": func(p *peer, data string) {
			p.write("/.doc.tmp", data)
			p.mv("/.doc.tmp", "/doc")
		},
		"backup and write": func(p *peer, data string) {
			p.mv("/doc", "/doc~")
			p.write("/doc", data)
			p.rm("/doc~")
		},
		"backup kept, replace": func(p *peer, data string) {
			if _, err := p.Lookup(RootIno, "doc.bak"); err == nil {
				p.rm("/doc.bak")
			}
			p.mv("/doc", "/doc.bak")
			p.write("/new", data)
			p.mv("/new", "/doc")
		},
		"exchange": func(p *peer, data string) {
			p.write("/new", data)
			p.must(p.Rename(RootIno, "new", RootIno, "doc", RenameExchange))
			p.rm("/new")
		},
	}
	for name, save := range patterns {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			a := w.peers[0]
			data := func(i int) string {
				s := fmt.Sprintf("version %02d", i)
				if i%3 == 0 {
					s += strings.Repeat("0123456789abcdef", 500*i)
				}
				return s
			}
			a.write("/doc", data(0))
			w.settle()
			const saves = 7
			for i := 1; i <= saves; i++ {
				save(a, data(i))
				w.settle()
			}
			if tree := w.same(); strings.Contains(tree, "conflict") {
				t.Errorf("conflict copy:\n%s", tree)
			}
			for _, p := range w.peers {
				xs := p.past("/doc")
				if len(xs) != saves {
					t.Errorf("%s: %d versions of %d", p.name, len(xs), saves)
				}
				for i, x := range xs {
					if got, want := p.bytesOf(x), data(saves-1-i); got != want {
						t.Errorf("%s: version %d is %.20q, not %.20q", p.name, i, got, want)
					}
					if x.Path != "doc" || x.Removed || x.Here != (p == a) || x.Who != a.opts.Label || x.By != a.opts.Label {
						t.Errorf("%s: version %d: %+v", p.name, i, x)
					}
				}
			}
		})
	}
}

// What others remove or write over is in the history with who did it, where it
// was, and its bytes.
func TestWhatOthersRemoveIsInTheHistory(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.mkdir("/d")
	a.mkdir("/d/e")
	long := strings.Repeat("much to lose ", 10_000)
	a.write("/d/e/long", long)
	a.write("/short", "little to lose")
	_, err := a.Create(RootIno, "link", New{Kind: model.Symlink, Mode: 0o777, Target: "d/e"})
	a.must(err)
	w.same()
	b.write("/short", "another")
	b.rm("/d")
	b.rm("/link")
	w.same()
	for _, p := range w.peers {
		here := p == b
		want := map[string]string{"d/e/long": long, "link": "-> d/e"}
		for _, x := range p.deleted() {
			if got := p.bytesOf(x); got != want[x.Path] {
				t.Errorf("%s: %s has %.20q", p.name, x.Path, got)
			}
			if !x.Removed || x.Here != here || x.Who != b.opts.Label || x.By != a.opts.Label || x.Time == 0 {
				t.Errorf("%s: %+v", p.name, x)
			}
			delete(want, x.Path)
		}
		if len(want) > 0 {
			t.Errorf("%s: not in the history: %d", p.name, len(want))
		}
		xs := p.past("/short")
		if len(xs) != 1 || p.bytesOf(xs[0]) != "little to lose" || xs[0].Removed || xs[0].Here != here {
			t.Errorf("%s: history of short is %+v", p.name, xs)
		}
	}
	a.write("/short", "third") // a removed file that comes back is not among the removed
	w.same()
	b.rm("/short")
	w.same()
	if xs := a.deleted(); len(xs) != 3 || xs[0].Path != "short" || a.bytesOf(xs[0]) != "third" {
		t.Errorf("deleted: %+v", xs)
	}
	if err := a.Check(context.Background(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}

// A version that came back, since another worked on the file while it was removed,
// is kept for as long as others from when it goes again.
func TestWhatCameBackGoesWhenItGoesAgain(t *testing.T) {
	for name, goes := range map[string]func(a, b *peer){
		"removed by who had worked on it": func(a, b *peer) { a.rm("/f") },
		"removed by who had removed it":   func(a, b *peer) { b.rm("/f") },
		"written over":                    func(a, b *peer) { b.write("/f", "other") },
		"moved over":                      func(a, b *peer) { b.write("/g", "other"); b.cutNow(); b.mv("/g", "/f") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.peers[0], w.peers[1]
			a.write("/f", "text")
			w.same()
			id := a.node("/f")
			w.part(true)
			b.rm("/f")
			b.must(b.Cut(t.Context()))
			mtime := int64(1e18)
			_, err := a.SetAttr(a.ino("/f"), Set{Mtime: &mtime})
			a.must(err)
			a.must(a.Cut(t.Context()))
			w.part(false)
			if tree := w.same(); !strings.Contains(tree, "/f") {
				t.Fatalf("it has not come back:\n%s", tree)
			}
			back := time.Now().UnixNano()
			goes(a, b)
			w.same()
			for _, p := range w.peers {
				var rows []index.Past
				p.must(p.Pasts(func(x index.Past) bool {
					if x.ID == id && p.bytesOf(x) == "text" {
						rows = append(rows, x)
					}
					return true
				}))
				if len(rows) != 1 || rows[0].Time < back {
					t.Errorf("%s: gone again at %d: %+v", p.name, back, rows)
				}
			}
		})
	}
}

// What is moved over a file has its name and its history; what that file held is
// not a version of the other.
func TestWhatIsMovedOverIsOfOneFile(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "f's")
	b.write("/g", "g's")
	w.same()
	f, g := a.node("/f"), a.node("/g")
	b.open(b.ino("/f"), false)
	b.mv("/g", "/f")
	w.same()
	b.write("/h", "more")
	b.rm("/h")
	w.same()
	for _, p := range w.peers {
		p.must(p.Pasts(func(x index.Past) bool {
			if got := p.bytesOf(x); x.ID == f && got != "f's" || x.ID == g && got != "g's" {
				t.Errorf("%s: a version of %s is %q: %+v", p.name, x.Path, got, x)
			}
			return true
		}))
		if xs := p.past("/f"); len(xs) != 1 {
			t.Errorf("%s: history of f: %+v", p.name, xs)
		}
	}
}

// What a file held that was moved over another, and written to at once, is a version
// of the one that it was, and none of the other.
func TestWhatIsMovedOverAndWrittenIsInTheHistoryOnce(t *testing.T) {
	for how, do := range map[string]func(p *peer){
		"moved over, written":       func(p *peer) { p.mv("/f", "/g"); p.write("/g", "next") },
		"written, moved over":       func(p *peer) { p.write("/f", "next"); p.mv("/f", "/g") },
		"kept as a backup, written": func(p *peer) { p.mv("/f", "/f~"); p.mv("/g", "/f"); p.write("/f~", "next") },
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a := w.peers[0]
				a.write("/f", "f's")
				a.write("/g", "g's")
				w.same()
				a.mkdir("/d")
				a.cutNow() // what follows at once is not cut at once
				f := a.node("/f")
				do(a)
				w.same()
				for _, p := range w.peers {
					n := 0
					p.must(p.Pasts(func(x index.Past) bool {
						if p.bytesOf(x) == "f's" {
							if n++; x.ID != f {
								t.Errorf("%s: a version of %s is f's", p.name, x.Path)
							}
						}
						return true
					}))
					if n != 1 {
						t.Errorf("%s: it is in the history %d times", p.name, n)
					}
				}
			})
		})
	}
}

// A deafRemote has changes, but for a while no bytes.
type deafRemote struct {
	memRemote
	deaf atomic.Bool
}

func (r *deafRemote) Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error {
	if r.deaf.Load() {
		return ErrOffline
	}
	return r.memRemote.Fetch(ctx, id, size, class)
}

// A version that was shown until its successor's bytes were here goes to the
// history when these are shown, not before.
func TestAVersionGoesToTheHistoryWhenItsSuccessorIsShown(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	one, two := strings.Repeat("one ", 5000), strings.Repeat("two ", 5000)
	a.write("/f", one)
	w.same()
	slow := &deafRemote{memRemote: memRemote{b}}
	b.again(slow)
	slow.deaf.Store(true)
	a.write("/f", two)
	a.must(a.Cut(t.Context()))
	w.until("the change comes", func() bool { return a.Knowledge().LE(b.Knowledge()) })
	if got := b.read(b.stat("/f").Ino); got != one {
		t.Errorf("shows %.10q", got)
	}
	if xs := b.past("/f"); len(xs) != 0 {
		t.Errorf("history %+v", xs)
	}
	slow.deaf.Store(false)
	b.Acked(a.name, a.Knowledge(), 0) // as a new session begins
	w.same()
	if xs := b.past("/f"); len(xs) != 1 || b.bytesOf(xs[0]) != one {
		t.Errorf("history %+v", xs)
	}
}

// What others wrote and removed before its bytes came is not in the history of
// who wrote another file over it meanwhile.
func TestWhatNeverCameIsNotInTheHistory(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.peers[0], w.peers[1]
	a.write("/f", "one")
	a.write("/g", "another")
	w.same()
	slow := &deafRemote{memRemote: memRemote{a}}
	a.again(slow)
	slow.deaf.Store(true)
	w.part(true)
	b.write("/f", strings.Repeat("never seen by a ", 5000))
	b.must(b.Cut(t.Context()))
	b.rm("/f")
	b.must(b.Cut(t.Context()))
	b.must(b.Sync())
	f := a.ino("/f")
	a.mv("/g", "/f")
	a.forget(f)
	w.part(false)
	w.until("both hear", func() bool { return b.Knowledge().LE(a.Knowledge()) })
	a.must(a.Cut(t.Context()))
	slow.deaf.Store(false)
	w.same()
	for _, x := range a.deleted() {
		if got := a.bytesOf(x); got != "one" && got != "another" {
			t.Errorf("history has %.20q", got)
		}
	}
}

// Whatever was committed where it could be seen is to be seen, or in the
// history: at each member that had it, though space is given back all the time.
func TestNothingSeenIsEverLost(t *testing.T) {
	for i := range int64(*worlds) {
		s := *seed + i
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) { loseNothing(t, s) })
	}
}

func loseNothing(t *testing.T, seed int64) {
	r := mrand.New(mrand.NewSource(seed))
	w := newWorld(t, 2+r.Intn(2))
	var log []string
	var us []*user
	had := map[*peer]map[string]model.Dot{}
	for _, p := range w.peers {
		p.crashable()
		u := &user{peer: p, r: r, log: &log, names: []string{"a", "b", "c.txt"}, reads: map[Ino]string{}, writes: map[Ino]bool{}}
		if r.Intn(2) == 0 {
			u.pad = strings.Repeat(" and more", 600)
		}
		us = append(us, u)
		had[p] = map[string]model.Dot{}
	}
	for range 40 + r.Intn(40) {
		u := us[r.Intn(len(us))]
		switch r.Intn(14) {
		case 0:
			log = append(log, "part")
			w.part(true)
		case 1:
			log = append(log, "heal")
			w.part(false)
		case 2, 3:
			u.say("cut")
			u.must(u.Cut(context.Background()))
			u.committed(had[u.peer])
		case 4:
			u.say("expire")
			u.must(u.Expire(context.Background()))
		case 5:
			if r.Intn(4) == 0 {
				u.restart()
			}
		default:
			u.step()
		}
	}
	for _, u := range us {
		u.close()
	}
	w.part(false)
	for _, u := range us {
		u.must(u.Cut(context.Background()))
		for _, q := range us {
			u.Acked(q.name, q.Knowledge(), 0) // as new sessions begin: what nobody had is asked for again
		}
	}
	w.same()
	for _, u := range us {
		u.must(u.Expire(context.Background()))
		u.stillHas(t, had[u.peer])
	}
	w.same()
	if t.Failed() {
		t.Log(strings.Join(log, "\n"))
	}
}

// stillHas checks that contents are shown or in the history.
func (p *peer) stillHas(t *testing.T, had map[string]model.Dot) {
	there := map[string]model.Dot{}
	p.committed(there)
	p.must(p.Pasts(func(x index.Past) bool { there[p.bytesOf(x)] = x.Orig; return true }))
	for c, orig := range had {
		if _, ok := there[c]; ok {
			continue
		}
		t.Errorf("%s had %.20q, which is neither shown nor in its history", p.name, c)
		for id, s := range p.State() {
			if strings.Contains(s, orig.String()) {
				t.Logf("%v: node %s %.600q", orig, id, s)
			}
		}
	}
}

// committed adds what the peer's files hold that is durable and was cut.
func (p *peer) committed(to map[string]model.Dot) {
	defer func() { p.must(p.Sync()) }()
	var walk func(dir Ino)
	walk = func(dir Ino) {
		var all []Entry
		p.must(p.List(dir, 0, func(e Entry) bool { all = append(all, e); return true }))
		for _, e := range all {
			switch e.Attr.Kind {
			case model.Dir:
				walk(e.Attr.Ino)
			case model.File:
				v, err := p.Content(e.Attr.Ino)
				if err != nil || v.Orig == (model.Dot{}) {
					continue
				}
				b := make([]byte, v.Content.Size)
				if len(b) > 0 {
					if _, err := content.NewReader(p.Blocks(), v.Content).ReadAt(context.Background(), b, 0); err != nil {
						p.t.Errorf("%s: %s: %v", p.name, e.Name, err)
					}
				}
				to[string(b)] = v.Orig
			}
		}
	}
	walk(RootIno)
}

func TestPastsComeNewestFirst(t *testing.T) {
	w := newWorld(t, 1)
	a := w.peers[0]
	for i := range 5 {
		a.write("/f", fmt.Sprint("f", i))
		a.write("/g", fmt.Sprint("g", i))
		w.settle()
	}
	var times []int64
	a.must(a.Pasts(func(x index.Past) bool { times = append(times, x.Time); return true }))
	if len(times) != 8 || !slices.IsSortedFunc(times, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("times %v", times)
	}
}

// What a conflict copy had before its user did something else there is in the
// history of all, once, also if others' changes come before that is cut.
func TestReplacedConflictCopiesAreInTheHistory(t *testing.T) {
	ways := map[string]func(p *peer, name string){
		"rename over": func(p *peer, name string) {
			p.write("/tmp", "over")
			p.mv("/tmp", name)
		},
		"write": func(p *peer, name string) { p.write(name, "over") },
		"backup": func(p *peer, name string) {
			p.mv(name, name+"~")
			p.write(name, "over")
			p.rm(name + "~")
		},
		"remove": func(p *peer, name string) { p.rm(name) },
	}
	for how, replace := range ways {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2)
				a, b := w.peers[0], w.peers[1]
				w.part(true)
				a.write("/doc", "a's")
				b.write("/doc", "b's")
				w.part(false)
				name := regexp.MustCompile(`/doc \(conflict, [^)]*\)`).FindString(w.same())
				had := b.shows(name)
				w.part(true)
				for range 2 { // directories that come beside it
					a.mkdir("/" + time.Now().Format("150405"))
					a.cutNow()
					time.Sleep(time.Second)
				}
				b.write("/z", "so that the next is not cut at once")
				time.Sleep(10 * time.Millisecond)
				replace(b, name)
				b.forget()
				w.talk2(a, b)
				w.part(false)
				w.same()
				for _, p := range w.peers {
					if n := len(slices.DeleteFunc(p.pasts(), func(s string) bool { return s != had })); n != 1 {
						t.Errorf("%s: %q is in the history %d times: %q", p.name, had, n, p.pasts())
					}
				}
			})
		})
	}
}
