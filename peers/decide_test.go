package peers

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// asked is a folder that answers a meeting when it is told to.
type asked struct {
	Folder
	mu      sync.Mutex
	times   int
	answers chan error
}

func (f *asked) Meet(ctx context.Context, _ string, _, _ model.Opening) (model.Tell, error) {
	f.mu.Lock()
	f.times++
	f.mu.Unlock()
	select {
	case err := <-f.answers:
		return model.Tell{}, err
	case <-ctx.Done():
		return model.Tell{}, ctx.Err()
	}
}

// While the folder is asked no lock is held, and it is asked once: who asks
// meanwhile gets the same answer, or goes when the session ends.
func TestAFolderIsAskedOnceAndUnderNoLock(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(f *asked, s *session)
		ok     bool
		failed bool // for one of the two
	}{
		{"yes", func(f *asked, _ *session) { f.answers <- nil }, true, false},
		{"wait", func(f *asked, _ *session) { f.answers <- syncer.ErrWait }, false, false},
		{"the session ends", func(_ *asked, s *session) { s.cancel(nil) }, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &asked{answers: make(chan error)}
				at := &attachment{Share: Share{Folder: f}, ctx: t.Context(), calls: new(sync.WaitGroup)}
				r := &Remote{at: at}
				l := &link{r: r, at: at, epoch: 1, openings: 1, heard: 1, theirs: theirs{here: true}}
				s := &session{links: map[trust.FolderID]*link{r.id: l}, kick: make(chan struct{}, 1)}
				s.ctx, s.cancel = context.WithCancelCause(t.Context())
				defer s.cancel(nil)
				type said struct {
					ok  bool
					err error
				}
				out := make(chan said, 2)
				for range 2 {
					go func() {
						ok, err := s.meet(l)
						out <- said{ok, err}
					}()
				}
				synctest.Wait()
				if !s.mu.TryLock() {
					t.Fatal("the session's lock is held")
				}
				s.mu.Unlock()
				if len(out) > 0 {
					t.Fatal("answered before the folder has")
				}
				tt.answer(f, s)
				synctest.Wait()
				failed := false
				for range 2 {
					got := <-out
					if got.ok != tt.ok {
						t.Errorf("got %v", got)
					}
					if got.err != nil && !errors.Is(got.err, errNotTaken) {
						t.Error(got.err)
					}
					failed = failed || got.err != nil
				}
				if failed != tt.failed || f.times != 1 {
					t.Errorf("asked %d times, failed %v", f.times, failed)
				}
			})
		})
	}
}
