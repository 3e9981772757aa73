package syncer_test

import (
	"context"
	"fmt"
	mrand "math/rand"
	"regexp"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/blocks/crashfs"
	. "github.com/clachanfs/clachan/syncer"
)

// A restorer is users whose databases are copied, restored and run twice.
type restorer struct {
	w      *world
	r      *mrand.Rand
	names  []string
	log    *[]string
	us     []*user
	copies map[*user]*crashfs.FS
	keeps  map[string]*user // files that nobody changes, by name, and who made them
	n      int
}

func (s *restorer) add(p *peer) {
	s.us = append(s.us, &user{peer: p, r: s.r, log: s.log, names: s.names, reads: map[Ino]string{}, writes: map[Ino]bool{}})
}

// keep makes a file that is to be there in the end.
func (s *restorer) keep(u *user) {
	s.n++
	name := fmt.Sprint("keep", s.n)
	u.say("make %s", name)
	if u.writeAt(RootIno, name, "content of "+name) {
		s.keeps[name] = u
	}
}

// losing forgets what only one has that is about to lose what it did last.
func (s *restorer) losing(u *user) {
	for name := range s.keeps {
		elsewhere := false
		for _, o := range s.us {
			_, err := o.Lookup(RootIno, name)
			elsewhere = elsewhere || o != u && err == nil
		}
		if !elsewhere {
			delete(s.keeps, name)
		}
	}
}

// clean tells whether nothing is to be cut.
func (u *user) clean() bool {
	st, err := u.Stats()
	u.must(err)
	return st.Pending == 0
}

func (s *restorer) restore(u *user) {
	old := s.copies[u]
	if old == nil {
		return
	}
	u.close()
	s.losing(u)
	u.say("restored from a copy")
	u.restore(old)
}

func (s *restorer) step() {
	u := s.us[s.r.Intn(len(s.us))]
	switch s.r.Intn(20) {
	case 0, 1:
		u.say("part")
		s.w.part(true)
	case 2, 3:
		u.say("heal")
		s.w.part(false)
	case 4:
		u.say("cut")
		u.must(u.Cut(context.Background()))
	case 5:
		u.close()
		if fs := u.copyOfDisk(); u.clean() {
			u.say("copied")
			s.copies[u] = fs
		}
	case 6:
		s.restore(u)
	case 7:
		if len(s.us) < 4 && s.r.Intn(2) == 0 {
			s.w.part(true)
			u.close()
			if fs := u.copyOfDisk(); u.clean() {
				u.say("cloned as %c", 'a'+len(s.w.peers))
				s.add(u.clone(fs))
			}
		}
	case 8:
		if s.r.Intn(3) == 0 {
			s.losing(u)
			u.restart()
		}
	case 9:
		s.keep(u)
	default:
		u.step()
	}
}

// keptTwice finds a conflict copy of a file that was only ever written once.
var keptTwice = regexp.MustCompile(`/keep\d+ \(conflict`)

// TestRandomRestores lets users work while databases are copied, restored and
// run twice. In the end all show the same, the rows are what the log says, and
// no file that nobody touched is missing, or there twice.
func TestRandomRestores(t *testing.T) {
	for i := range int64(*worlds) {
		seed := *seed + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := mrand.New(mrand.NewSource(seed))
			var log []string
			t.Cleanup(func() {
				if t.Failed() {
					for _, l := range log {
						t.Log(l)
					}
				}
			})
			policy, names := namesOf(seed)
			s := &restorer{w: newCrashableOf(t, 2+r.Intn(2), policy), r: r, names: names, log: &log, copies: map[*user]*crashfs.FS{}, keeps: map[string]*user{}}
			for _, p := range s.w.peers {
				s.add(p)
			}
			for range 40 + r.Intn(40) {
				s.step()
			}
			for _, u := range s.us {
				u.close()
			}
			s.w.part(false)
			tree := s.w.same()
			for name := range s.keeps {
				if !strings.Contains(tree, "/"+name+" 644 content of "+name) {
					t.Errorf("%s is gone:\n%s", name, tree)
				}
			}
			if keptTwice.MatchString(tree) {
				t.Errorf("equal contents conflict:\n%s", tree)
			}
		})
	}
}
