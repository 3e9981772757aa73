package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/model"
)

// A surface whose files are files on a disk keeps their bytes itself: the store only
// notes where they stand, and holds what stands nowhere, as the history does. Files
// have the numbers of the disk, as in Seen: inodes of the folder change hands.

// inPlace tells whether the surface is such a one.
func (f *Folder) inPlace() bool {
	_, ok := f.surf.(blocks.Source)
	return ok
}

// inFile is a Layer that is a file on a disk.
type inFile interface{ File() uint64 }

// placing notes where blocks of data stand, and stores lists; and, while others may change the
// file as well, all of it.
type placing struct {
	content.Store
	at    *blocks.Placing
	twice bool
}

// PutAt implements content.Placer.
func (p placing) PutAt(ctx context.Context, data []byte, off int64) (id blocks.ID, err error) {
	if !p.twice {
		return p.at.Put(data, off)
	}
	if id, err = p.Put(ctx, data); err == nil {
		err = p.at.Note(id, off, int64(len(data)))
	}
	return id, err
}

// Same tells whether src has the bytes of a version, of which no block need be here.
func (f *Folder) Same(ctx context.Context, src io.ReaderAt, v Version) (bool, error) {
	c, _, err := content.Write(ctx, naming{f.blockStore(), f.store}, f.o.Seed, v.Content.Cut, src, v.Content.Size, nil)
	return err == nil && c.Encode() == v.Content.Encode(), err
}

// naming says what blocks would be called, and stores none.
type naming struct {
	content.Getter
	store *blocks.Store
}

// Put implements content.Putter.
func (n naming) Put(_ context.Context, p []byte) (blocks.ID, error) { return n.store.ID(p), nil }

// Placed tells that a file of the surface has the bytes of a version, which need not be kept
// twice any more. They are durable, or others have them.
func (f *Folder) Placed(ctx context.Context, file uint64, v Version) error {
	p := f.store.PlaceIn(file)
	if err := content.Data(ctx, f.store, v.Content, p.Note); err != nil {
		return err
	}
	f.double(v.Content.Size)
	return nil
}

// double notes that bytes are stored twice, and has them swept when it is much.
func (f *Folder) double(n int64) {
	f.mu.Lock()
	f.doubled += n
	due := f.doubled >= f.enough
	if due { // seldomer as it gets more in a day: a sweep goes through all
		f.enough = f.doubled + max(spareMost, f.doubled/4)
	}
	f.mu.Unlock()
	if due {
		select {
		case f.spare <- struct{}{}:
		default:
		}
	}
}

const spareMost = 256 << 20 // bytes that may be stored twice until they are swept

// Stands tells whether a file of the surface is known to have the bytes of a version.
func (f *Folder) Stands(ctx context.Context, file uint64, v Version) bool {
	stands, found := true, errors.New("found")
	err := content.Data(ctx, f.store, v.Content, func(id blocks.ID, _, _ int64) error {
		stands = f.store.Stands(id, file)
		return found
	})
	return stands && (err == nil || errors.Is(err, found))
}

// keepAll is how large a file is of which all is kept. Of a larger one only what its successor
// does not have: the rest stands there, for as long as that stays as it is.
const keepAll = 64 << 20

// Keep stores the bytes of a file of the surface that is about to give way to another, or to
// nothing (0), for the history.
func (f *Folder) Keep(ctx context.Context, file, next uint64, size int64) error {
	if size <= keepAll {
		next = 0
	}
	if err := f.store.Keep(ctx, file, next); err != nil {
		return err
	}
	return f.store.Flush(ctx)
}

// Kept makes what was kept durable.
func (f *Folder) Kept() error {
	if err := f.disk.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// Demote stores all that stands in files of the surface, which is about to be another.
func (f *Folder) Demote(ctx context.Context) error {
	err := f.store.Files(func(file uint64) error { return f.store.Keep(ctx, file, 0) })
	if err == nil {
		err = f.store.Flush(ctx)
	}
	return cmp.Or(err, f.Kept())
}

// Unplaced tells that a file of the surface is gone.
func (f *Folder) Unplaced(file uint64) error { return f.store.Leave(file) }

// markAll marks what rows name. Of what the disk shows, and all members have, this is what does
// not stand there: last, since what it has in lists that others have too is theirs to mark.
func (f *Folder) markAll(ctx context.Context, m *blocks.Marks) error {
	roots := f.ix.Roots()
	defer roots.Close()
	shown := func(Ino, model.Dot) (file uint64, err error) { return 0, nil }
	if f.inPlace() {
		had, err := f.hadByAll()
		if err != nil {
			return err
		}
		shown = func(ino Ino, orig model.Dot) (uint64, error) {
			if !had(orig) {
				return 0, nil
			}
			return f.fileOf(ino)
		}
	}
	err := roots.Current(func(ino Ino, orig model.Dot, c string) error {
		file, err := shown(ino, orig)
		if err == nil && file == 0 {
			_, err = f.markContent(ctx, m, c)
		}
		return err
	})
	if err == nil {
		err = roots.Past(func(c string) error {
			_, err := f.markContent(ctx, m, c)
			return err
		})
	}
	if err != nil || !f.inPlace() {
		return err
	}
	return roots.Current(func(ino Ino, _ model.Dot, c string) error {
		file, err := f.fileOf(ino)
		if err == nil {
			_, err = f.markContent(ctx, &markRest{m, f.store, file}, c)
		}
		return err
	})
}

// hadByAll tells which versions all other members have, with all bytes. What one of them does
// not know it may change too, and then both are needed, whatever becomes of the file.
func (f *Folder) hadByAll() (func(model.Dot) bool, error) {
	ends, err := f.ix.Ends()
	if err != nil || f.o.Members == nil {
		return func(model.Dot) bool { return false }, err
	}
	members := f.o.Members()
	f.mu.Lock()
	defer f.mu.Unlock()
	var have []model.VV
	for _, m := range members {
		a := f.acks[m]
		if a.Missing > 0 || f.parted[m] {
			a.K = nil
		}
		have = append(have, a.K)
	}
	return func(d model.Dot) bool { // zero: it is not known which version it is
		return !slices.ContainsFunc(have, func(k model.VV) bool { return d == (model.Dot{}) || !k.Has(ends.Said(d)) })
	}, nil
}

// alone tells that there is no other member: nobody can change what is on disk.
func (f *Folder) alone() bool { return f.o.Members != nil && len(f.o.Members()) == 0 }

// fileOf is which file the disk shows of an inode; 0: none.
func (f *Folder) fileOf(ino Ino) (uint64, error) {
	at, err := f.Sight().Of(ino)
	if err != nil || len(at) == 0 {
		return 0, err
	}
	s, _, err := f.Sight().Get(at[0])
	return s.File.Ino, err
}

// markRest marks the blocks of a file that do not stand in it, through all lists.
type markRest struct {
	m     *blocks.Marks
	store *blocks.Store
	file  uint64
}

// Mark implements content.Marker.
func (r *markRest) Mark(id blocks.ID) (int64, bool, error) {
	if r.store.Stands(id, r.file) {
		return 0, false, nil
	}
	size, _, err := r.m.Mark(id)
	return size, true, err
}
