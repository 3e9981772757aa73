package mount

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
)

// atimes are when inodes were read, until their rows say so: soon, and at the end. A crash loses them.
type atimes struct {
	mu sync.Mutex // guards at
	at map[syncer.Ino]int64
}

func (a *atimes) set(ino syncer.Ino, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[syncer.Ino]int64{}
	}
	a.at[ino] = at
}

// get returns 0 if the row knows.
func (a *atimes) get(ino syncer.Ino) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[ino]
}

func (a *atimes) drop(ino syncer.Ino) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.at, ino)
}

// told forgets the times that the rows have, unless there are later ones.
func (a *atimes) told(at map[syncer.Ino]int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ino, t := range at {
		if a.at[ino] == t {
			delete(a.at, ino)
		}
	}
}

func (a *atimes) inos() []syncer.Ino {
	a.mu.Lock()
	defer a.mu.Unlock()
	inos := make([]syncer.Ino, 0, len(a.at))
	for ino := range a.at {
		inos = append(inos, ino)
	}
	return inos
}

// touch moves atime the way relatime does: once until the file changes or is opened anew.
func (m *Mount) touch(l *live, f *staging.File) {
	l.read.Store(true)
	if m.opts.NoAtime || m.opts.ReadOnly {
		return
	}
	a, err := m.folder.Attr(l.ino)
	if err != nil {
		return
	}
	changed := max(a.Mtime, a.Ctime)
	if i := f.Info(); i.Dirty {
		changed = max(i.Mtime, i.Ctime, a.Ctime)
	}
	now := time.Now().UnixNano()
	if at := max(a.Atime, m.atimes.get(l.ino)); at <= changed || now-at > int64(24*time.Hour) {
		m.atimes.set(l.ino, now)
	}
}

// atimesOnce is how many rows are written as one.
const atimesOnce = 1000

// saveAtimes has the rows know what was read. Where that cannot be written it is not worth keeping.
func (m *Mount) saveAtimes() {
	for inos := range slices.Chunk(m.atimes.inos(), atimesOnce) {
		told := map[syncer.Ino]int64{}
		for _, ino := range inos {
			told[ino] = m.atimes.get(ino)
		}
		err := m.folder.Accessed(inos, func(ino syncer.Ino) int64 {
			if m.atimes.get(ino) != told[ino] {
				return 0 // set to another meanwhile
			}
			return told[ino]
		})
		m.atimes.told(told)
		if err != nil {
			m.log.Debug("atimes not saved", slog.Any("err", err))
		}
	}
}
