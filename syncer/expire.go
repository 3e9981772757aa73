package syncer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// The expirer gives space back. Once a day, and when the disk runs short, it
// lets go for good of old history, and deletes the blocks that nothing names.
// A folder in which nothing has happened is only looked at, unless others may have told
// that they have what stands in a plain directory.

const (
	firstExpiry = 10 * time.Minute // after the start
	expireEvery = 24 * time.Hour
	shortAgain  = 10 * time.Minute // a disk that stays short is not looked at more often
	keepDays    = 30
	keepShare   = 0.10
	forgetMax   = 1000 // rows deleted in one batch
)

// runExpirer expires what is due, daily and when the disk runs short.
func (f *Folder) runExpirer(ctx context.Context) error {
	short, stop := f.disk.WatchShort()
	defer stop()
	timer := time.NewTimer(firstExpiry)
	defer timer.Stop()
	var rest time.Time // not to be woken before, having freed nothing
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			timer.Reset(expireEvery)
			f.mu.Lock()
			f.doubled, f.enough = 0, spareMost
			f.mu.Unlock()
			if err := f.tidy(ctx); err != nil && ctx.Err() == nil {
				f.log.Error("collect what was removed", "err", err)
			}
		case <-f.spare:
		case <-short:
			if time.Now().Before(rest) {
				continue
			}
		}
		freed, err := f.expire(ctx)
		if err != nil && ctx.Err() == nil {
			f.log.Error("give space back", "err", err)
		}
		if freed > 0 {
			rest = time.Time{}
		} else {
			rest = time.Now().Add(shortAgain)
		}
	}
}

// tidy does what is due each day besides giving space back.
func (f *Folder) tidy(ctx context.Context) error {
	if err := f.saveAcks(); err != nil {
		return err
	}
	_, err := f.collect(ctx, f.o.Now().AddDate(0, 0, -tombDays))
	return err
}

// expire gives space back until there is enough, or nothing more to give.
func (f *Folder) expire(ctx context.Context) (freed int64, err error) {
	for {
		gone, err := f.forget(ctx)
		if err != nil {
			return freed, fmt.Errorf("history: %w", err)
		}
		n, err := f.sweep(ctx, gone > 0)
		freed += n
		if err != nil || gone == 0 || f.disk.Short() == 0 {
			return freed, err
		}
	}
}

// A kept is a version in the history, to be judged.
type kept struct {
	time int64 // when it went there
	cost int64 // bytes that go with it once all older ones have gone
	hold bool  // made here, and no other member has it yet
	news bool  // that it is gone some member has not told to know: it may still build on it
}

// A rule says how much history may be kept.
type rule struct {
	since  int64 // what went there before is too old
	budget int64 // bytes
	short  int64 // bytes that are to be freed all the same
}

// evict says which versions go, of all there are, the newest first: those too
// old, if all know that they are gone, and the oldest of those that are too much.
// What nobody else has stays.
func evict(rows []kept, r rule) []bool {
	var total int64
	for _, k := range rows {
		total += k.cost
	}
	budget := r.budget
	if r.short > 0 {
		budget = max(0, min(budget, total-r.short))
	}
	out := make([]bool, len(rows))
	full, used := false, int64(0)
	for i, k := range rows {
		full = full || used+k.cost > budget
		if out[i] = !k.hold && (full || k.time < r.since && !k.news); !out[i] {
			used += k.cost
		}
	}
	return out
}

// rule is what holds now.
func (f *Folder) rule(now time.Time) (rule, error) {
	total, _, _, err := f.disk.Usage()
	if err != nil {
		return rule{}, err
	}
	days, share := f.o.KeepDays, f.o.KeepShare
	if days == 0 {
		days = keepDays
	}
	if share == 0 {
		share = keepShare
	}
	return rule{since: now.AddDate(0, 0, -days).UnixNano(), budget: int64(share * float64(total)), short: f.disk.Short()}, nil
}

// forget lets go for good of history, and returns of how many versions.
func (f *Folder) forget(ctx context.Context) (n int, err error) {
	now := f.o.Now()
	r, err := f.rule(now)
	if err != nil {
		return 0, err
	}
	gaps, err := f.look(now, now.UnixNano()-r.since)
	if err != nil {
		return 0, err
	}
	var keys []index.PastKey
	var rows []kept
	var total int64
	alone, acks := f.othersHave()
	all, _, told := f.stable()
	ends, err := f.ix.Ends()
	if err != nil {
		return 0, err
	}
	err = f.ix.Pasts(func(x index.Expiry) bool {
		own := x.Orig.Replica.Of(f.device()) // whatever this member was called then
		keys = append(keys, x.PastKey)
		rows = append(rows, kept{time: gaps.Since(x.Time), cost: x.Size, hold: own && !alone && !hasAny(acks, ends.Said(x.Orig)),
			news: !alone && !(told && all.Has(x.End))})
		total += x.Size
		return ctx.Err() == nil
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return 0, err
	}
	if total > r.budget || r.short > 0 { // sizes count what is shared more than once
		if err := f.costs(ctx, keys, rows); err != nil {
			return 0, err
		}
	}
	var gone []index.PastKey
	for i, out := range evict(rows, r) {
		if out {
			gone = append(gone, keys[i])
		}
	}
	for rest := gone; len(rest) > 0; {
		k := min(len(rest), forgetMax)
		if err := f.ix.Forget(rest[:k]); err != nil {
			return 0, err
		}
		rest = rest[k:]
	}
	if len(gone) > 0 {
		f.log.Info("history let go of", "versions", len(gone))
	}
	return len(gone), nil
}

// look notes that time has passed. Where nothing else happens that is not
// written down: after a restart it was a gap.
// keep is how old, in ns, is old enough.
func (f *Folder) look(now time.Time, keep int64) (index.Gaps, error) {
	f.ix.Looked(now.UnixNano())
	f.mu.Lock()
	jumped := f.gaps.Look(now.UnixNano(), keep)
	known := !jumped && f.gapsAt == f.commits+1
	f.gapsAt = f.commits + 1
	gaps := f.gaps.Clone()
	f.mu.Unlock()
	if known {
		return gaps, nil
	}
	return gaps, f.ix.SetGaps(gaps)
}

// firstLook looks at the clock for the first time: a jump before the next look is
// to be seen.
func (f *Folder) firstLook() error {
	if !f.gaps.Never() {
		return nil
	}
	_, err := f.look(f.o.Now(), 0)
	return err
}

// lookAtJump looks at the clock before something is written with its time, if it
// has gone on by more than anybody has seen: the next jump is another.
func (f *Folder) lookAtJump() error {
	now := f.o.Now()
	if !f.ix.Unseen(now.UnixNano()) {
		return nil
	}
	_, err := f.look(now, math.MaxInt64)
	return err
}

func hasAny(acks []model.VV, d model.Dot) bool {
	for _, k := range acks {
		if k.Has(d) {
			return true
		}
	}
	return false
}

// othersHave returns what each other member has said it has, with all bytes; alone
// tells that there is no other. Who has another history of some replica means
// other changes by the same dots; who was removed may have nothing any more.
func (f *Folder) othersHave() (alone bool, ks []model.VV) {
	var members []string
	if f.o.Members != nil {
		members = f.o.Members()
		alone = len(members) == 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, a := range f.acks {
		if f.o.Members != nil && !slices.Contains(members, p) {
			continue
		}
		if a.Missing == 0 && !f.parted[p] { // else it may have heard of a version and not have it
			ks = append(ks, a.K)
		}
	}
	return alone, ks
}

// costs finds what each version of the history takes that neither the tree nor
// a newer one needs.
func (f *Folder) costs(ctx context.Context, keys []index.PastKey, rows []kept) error {
	m, err := f.store.NewMarks(ctx)
	if err != nil {
		return err
	}
	roots := f.ix.Roots()
	defer roots.Close()
	err = roots.Current(func(_ Ino, _ model.Dot, c string) error {
		_, err := f.markContent(ctx, m, c)
		return err
	})
	for i, k := range keys {
		if err != nil {
			return err
		}
		var p index.Past
		p, err = f.ix.Past(k)
		switch {
		case errors.Is(err, index.ErrNotFound):
			err = nil
		case err == nil && p.Kind == model.File && rows[i].cost > content.MaxInline:
			rows[i].cost, err = f.markContent(ctx, m, p.Content)
		}
	}
	return err
}

func (f *Folder) markContent(ctx context.Context, m content.Marker, encoded string) (int64, error) {
	c, err := content.Decode(encoded)
	if err != nil {
		return 0, err
	}
	return content.Mark(ctx, f.store, c, m)
}

// sweep deletes the blocks that no row names, if there may be any: of those in place there are
// when others have told that they have them.
func (f *Folder) sweep(ctx context.Context, must bool) (int64, error) {
	f.mu.Lock()
	commits := f.commits
	must = must || !f.swept || f.sweptAt != commits || f.inPlace()
	f.mu.Unlock()
	if !must {
		return 0, nil
	}
	n, err := f.store.Sweep(ctx, f.markAll)
	if n.Blocks > 0 {
		f.log.Info("blocks deleted", "blocks", n.Blocks, "packs", n.Packs, "bytes", n.Bytes)
	}
	if err == nil {
		f.mu.Lock()
		f.swept, f.sweptAt = true, commits
		f.mu.Unlock()
	}
	return n.Bytes, err
}

// Expire gives space back now, as Run does each day.
func (f *Folder) Expire(ctx context.Context) error {
	_, err := f.expire(ctx)
	return err
}

// History yields the versions that a file has had, the newest first. Their bytes
// are read through Blocks.
func (f *Folder) History(ino Ino, yield func(index.Past) bool) error {
	r, err := f.ix.Attr(ino)
	if errors.Is(err, index.ErrNotFound) {
		return ErrNotExist
	}
	if err != nil {
		return err
	}
	id := r.ID
	if !r.Of.IsZero() { // a conflict copy that nobody has pinned has none of its own
		own := false
		if err := f.ix.History(id, func(index.Past) bool { own = true; return false }); err != nil || !own {
			id = r.Of
		}
	}
	if id.IsZero() {
		return nil
	}
	return f.ix.History(id, yield)
}

// Pasts yields all versions in the history, the latest let go of first.
func (f *Folder) Pasts(yield func(index.Past) bool) error {
	var failed error
	err := f.ix.Pasts(func(x index.Expiry) bool {
		p, err := f.ix.Past(x.PastKey)
		switch {
		case errors.Is(err, index.ErrNotFound): // let go of meanwhile
			return true
		case err != nil:
			failed = err
			return false
		}
		return yield(p)
	})
	return errors.Join(failed, err)
}

// Deleted yields the files that were removed and are in the history, the last
// version of each, the latest removed first.
func (f *Folder) Deleted(yield func(index.Past) bool) error {
	seen := map[model.ID]bool{}
	return f.Pasts(func(p index.Past) bool {
		again := seen[p.ID]
		seen[p.ID] = true
		return again || !p.Removed || yield(p)
	})
}
