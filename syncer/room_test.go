package syncer_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/blocks"
	. "github.com/clachanfs/clachan/syncer"
)

// fullRemote has no room for blocks.
type fullRemote struct {
	*memRemote
	full  atomic.Bool
	asked atomic.Int64
}

func (r *fullRemote) Fetch(ctx context.Context, id blocks.ID, size int64, class Class) error {
	r.asked.Add(1)
	if r.full.Load() {
		return ErrFull
	}
	return r.memRemote.Fetch(ctx, id, size, class)
}

// warnings counts what is logged above information, of one message.
type warnings struct {
	slog.Handler
	about string
	n     atomic.Int64
}

func (h *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h *warnings) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *warnings) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.about) {
		h.n.Add(1)
	}
	return nil
}

// A full disk asks nobody for bytes that it could not keep, says so once, and
// goes on by itself as soon as there is room.
func TestAFullDiskFetchesNothingUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		disk := sized(vfs.NewMem(), 400<<20, 100<<20)
		said := &warnings{about: "room"}
		b.opts.Log = slog.New(said)
		r := &fullRemote{memRemote: &memRemote{b}}
		b.opts.Remote = r
		b.onDisk(disk)
		w.settle()
		for round := range uint64(2) {
			sized(disk, 400<<20, uint64(b.disk.Reserve())-1)
			time.Sleep(2 * time.Second) // what is known of the disk is older
			r.asked.Store(0)
			said.n.Store(0)
			const files = 40
			for i := range files {
				a.write(fmt.Sprint("/f", i), noise(100*round+uint64(i), 20_000))
			}
			a.must(a.Cut(t.Context()))
			time.Sleep(time.Hour)
			if n := r.asked.Load(); n > 0 {
				t.Errorf("asked for %d blocks, which there is no room for", n)
			}
			if n := said.n.Load(); n != 1 {
				t.Errorf("said %d times in an hour, of %d files", n, files)
			}
			if n, _ := b.Missing(); n != files {
				t.Errorf("%d files are missing", n)
			}
			sized(disk, 400<<20, 100<<20)
			time.Sleep(15 * time.Second)
			if n, _ := b.Missing(); n != 0 {
				t.Errorf("there is room, and %d files are missing", n)
			}
			w.same()
			time.Sleep(15 * time.Second) // all is here: next time it is said again
		}
	})
}

// Where the disk refuses what it seemed to have room for (a quota), each file is
// tried now and then, and that is said once.
func TestADiskThatRefusesBlocksIsNotPressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.peers[0], w.peers[1]
		said := &warnings{about: ""}
		b.opts.Log = slog.New(said)
		r := &fullRemote{memRemote: &memRemote{b}}
		b.again(r)
		r.full.Store(true)
		const files = 5
		for i := range files {
			a.write(fmt.Sprint("/f", i), noise(uint64(i), 20_000))
		}
		a.must(a.Cut(t.Context()))
		time.Sleep(10 * time.Minute)
		if n := r.asked.Load(); n < files || n > 61*files {
			t.Errorf("asked for blocks %d times in ten minutes, of %d files", n, files)
		}
		if n := said.n.Load(); n != 1 {
			t.Errorf("said %d times", n)
		}
		r.full.Store(false)
		time.Sleep(15 * time.Second)
		w.same()
	})
}
