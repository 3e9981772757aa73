package blocks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tempSuffix ends the names of packs that Pebble does not have yet.
const tempSuffix = ".ing"

// makeDir makes dir so that it survives a crash.
func makeDir(fsys vfs.FS, dir string) error {
	var made []string // directories that have a new entry
	for d := dir; ; d = fsys.PathDir(d) {
		_, err := fsys.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent := fsys.PathDir(d)
		if parent == d {
			break
		}
		made = append(made, parent)
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range made {
		if err := syncDir(fsys, d); err != nil {
			return err
		}
	}
	return nil
}

// lockDir keeps other processes out of dir.
func lockDir(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(fsys.PathJoin(dir, "LOCK"))
	if err == nil {
		return lock, nil
	}
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "held by current process") // as package vfs says it
	if held {
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return nil, fmt.Errorf("lock: %w", err)
}

// smallState is what is known of the small rows of a folder.
type smallState struct {
	next  uint64 // number of the next row
	bytes int64
}

// sweep compares the packs there are with those meta knows, drops the ones it
// does not know, which a crash has left between Ingest and commit, and removes
// temporary files.
func (d *Disk) sweep() error {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			if err := d.fs.Remove(d.fs.PathJoin(d.dir, name)); err != nil {
				return err
			}
		}
	}
	known, err := d.scanMeta()
	if err != nil {
		return err
	}
	there, err := d.packs()
	if err != nil {
		return err
	}
	var orphans []uint64
	for _, p := range there {
		if !known[p] {
			orphans = append(orphans, p)
		}
		delete(known, p)
		d.lastPack.Store(max(d.lastPack.Load(), p))
	}
	for p := range known {
		d.lastPack.Store(max(d.lastPack.Load(), p))
	}
	d.lost = known
	if len(known) > 0 {
		d.log.Error("packs are missing; their blocks must be fetched again", "packs", len(known))
	}
	if len(orphans) > 0 {
		d.log.Info("sweeping packs a crash has left", "packs", len(orphans))
	}
	return d.excise(context.Background(), orphans)
}

// scanMeta returns the packs of all folders, and notes their small rows.
func (d *Disk) scanMeta() (known map[uint64]bool, err error) {
	known = map[uint64]bool{}
	d.small = map[uint32]smallState{}
	it, err := d.meta.NewIter(nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.SeekGE(tableKey(1, 0)); ok; {
		if len(it.Key()) < 5 {
			return nil, fmt.Errorf("key %x: %w", it.Key(), errRow)
		}
		folder := binary.BigEndian.Uint32(it.Key())
		if err := d.scanFolder(it, folder, known); err != nil {
			return nil, err
		}
		if folder == math.MaxUint32 {
			break
		}
		ok = it.SeekGE(tableKey(folder+1, 0))
	}
	return known, it.Error()
}

func (d *Disk) scanFolder(it *pebble.Iterator, folder uint32, known map[uint64]bool) error {
	end := tableKey(folder, tabPacks+1)
	for ok := it.SeekGE(tableKey(folder, tabPacks)); ok && string(it.Key()) < string(end); ok = it.Next() {
		p, err := parsePackRowKey(it.Key())
		if err != nil {
			return err
		}
		known[p] = true
	}
	var st smallState
	end = tableKey(folder, tabSmall+1)
	for ok := it.SeekGE(tableKey(folder, tabSmall)); ok && string(it.Key()) < string(end); ok = it.Next() {
		seq, err := parseSmallKey(it.Key())
		if err != nil {
			return err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		st.next, st.bytes = seq+1, st.bytes+int64(len(v))
	}
	if st.next > 0 {
		d.small[folder] = st
	}
	return it.Error()
}

// packs returns the numbers of the packs there are, in order. It reads no
// block: a table is a pack, and the instance knows the bounds of its tables.
func (d *Disk) packs() ([]uint64, error) {
	levels, err := d.blocks.SSTables()
	if err != nil {
		return nil, err
	}
	var packs []uint64
	for _, tables := range levels {
		for _, t := range tables {
			first, _, ok1 := parsePackKey(t.Smallest.UserKey)
			last, _, ok2 := parsePackKey(t.Largest.UserKey)
			if !ok1 || !ok2 || first != last {
				return nil, fmt.Errorf("table of %x to %x: %w", t.Smallest.UserKey, t.Largest.UserKey, errRow)
			}
			packs = append(packs, first)
		}
	}
	slices.Sort(packs)
	return slices.Compact(packs), nil
}

// excise gives back the space of packs, which are in order. Runs of them go at
// once: a span may hold no table in part, as that would keep the whole of it.
func (d *Disk) excise(ctx context.Context, packs []uint64) error {
	select {
	case d.keep <- struct{}{}:
		defer func() { <-d.keep }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for len(packs) > 0 {
		n := 1
		for n < len(packs) && packs[n] == packs[n-1]+1 {
			n++
		}
		span := pebble.KeyRange{Start: packKey(packs[0], 0), End: packKey(packs[n-1]+1, 0)}
		if err := d.blocks.Excise(ctx, span); err != nil {
			return fmt.Errorf("excise packs: %w", err)
		}
		packs = packs[n:]
	}
	return nil
}

// Drop forgets all blocks of folder and gives their space back. Its store is
// closed. The rows go first: what a crash leaves are packs to sweep.
func (d *Disk) Drop(folder uint32) error {
	d.mu.Lock()
	s := d.stores[folder]
	delete(d.stores, folder)
	delete(d.small, folder)
	d.mu.Unlock()
	if s != nil {
		s.turn <- struct{}{} // for good: nobody writes packs of a dropped store
		s.discard()
	}
	if err := d.drop(folder); err != nil {
		return fmt.Errorf("drop blocks of folder %d: %w", folder, err)
	}
	return nil
}

func (d *Disk) drop(folder uint32) error {
	packs, err := d.packsOf(folder)
	if err != nil {
		return err
	}
	b := d.meta.NewBatch()
	for _, table := range []byte{tabBlocks, tabPacks, tabSmall, tabParts, tabFiles} {
		if err := b.DeleteRange(tableKey(folder, table), tableKey(folder, table+1), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := errors.Join(b.Commit(pebble.Sync), b.Close()); err != nil {
		return err
	}
	return d.excise(context.Background(), packs)
}

// packsOf returns the packs of folder in order.
func (d *Disk) packsOf(folder uint32) (packs []uint64, err error) {
	it, err := d.meta.NewIter(&pebble.IterOptions{
		LowerBound: tableKey(folder, tabPacks),
		UpperBound: tableKey(folder, tabPacks+1),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		p, err := parsePackRowKey(it.Key())
		if err != nil {
			return nil, err
		}
		packs = append(packs, p)
	}
	return packs, it.Error()
}

// discard closes the store and drops what it has in memory. The caller sees to
// it that nobody is writing it.
func (s *Store) discard() {
	s.mu.Lock()
	packs := s.queue
	if s.open != nil {
		packs = append(packs, s.open)
	}
	s.queue, s.open, s.closed = nil, nil, true
	clear(s.pending)
	s.mu.Unlock()
	for _, p := range packs {
		s.d.room.pending.Add(-p.bytes)
		p.release()
	}
}
