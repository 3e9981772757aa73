package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/plain"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
	"golang.org/x/sync/errgroup"
)

// waitPeriod is how often a wait looks again: what it waits for is not counted
// up for it by anybody, so that nobody pays where nobody waits.
const waitPeriod = 20 * time.Millisecond

// wait returns when all that was written and closed before is durable here and
// announced, no block is missing here, and the members asked for hold all of it.
func (d *Daemon) wait(ctx context.Context, in control.WaitRequest) (control.None, error) {
	targets, err := d.waitTargets(in)
	if err != nil {
		return control.None{}, err
	}
	if in.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.Timeout)
		defer cancel()
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range targets {
		g.Go(func() error { return t.wait(ctx) })
	}
	err = g.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		err = control.Errorf(control.Timeout, "not all is safe yet after %v", in.Timeout)
	}
	return control.None{}, err
}

// A waitTarget is a folder and the members that must hold all of it.
type waitTarget struct {
	name  string
	core  *syncer.Folder
	plain *plain.Dir // nil: it is not, or is not kept
	on    []string   // peer ids
}

// waitTargets says what a request waits for. With a member and no folder these
// are the folders that member is in.
func (d *Daemon) waitTargets(in control.WaitRequest) ([]waitTarget, error) {
	folders := d.all()
	if in.Folder != "" {
		f, err := d.find(in.Folder)
		if err != nil {
			return nil, err
		}
		folders = []*folder{f}
	}
	var targets []waitTarget
	for _, f := range folders {
		v := d.view(f)
		if v.core() == nil {
			return nil, control.Errorf(control.Other, "the folder %s is not running: %v", v.rec.Name, v.err)
		}
		on, err := matchMembers(d.others(v), in.On)
		if err != nil {
			return nil, err
		}
		if in.On != "" && in.On != allMembers && len(on) == 0 {
			continue
		}
		targets = append(targets, waitTarget{v.rec.Name, v.core(), v.kept(), on})
	}
	if in.On != "" && in.On != allMembers && len(targets) == 0 {
		return nil, control.Errorf(control.NotFound, "no member is called %q (see: clachan peers)", in.On)
	}
	return targets, nil
}

const allMembers = "all"

// others are the members of a folder but this device.
func (d *Daemon) others(f folder) []trust.Member {
	var others []trust.Member
	for _, m := range f.grant.Log.Members() {
		if m.ID != d.node.ID() {
			others = append(others, m)
		}
	}
	return others
}

// matchMembers picks the members that on means: none, all, or the one with
// that name or id.
func matchMembers(members []trust.Member, on string) ([]string, error) {
	var ids []string
	for _, m := range members {
		if on == allMembers || (on != "" && (m.Label == on || m.ID == on)) {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) > 1 && on != allMembers {
		return nil, control.Errorf(control.Usage, "%d members are called %q; use the id of one (see: clachan peers)", len(ids), on)
	}
	return ids, nil
}

func (t waitTarget) wait(ctx context.Context) error {
	if t.plain != nil {
		if err := t.plain.Scan(ctx); err != nil {
			return err
		}
	}
	if err := t.core.Cut(ctx); err != nil {
		return err
	}
	want := t.core.Knowledge()
	tick := time.NewTicker(waitPeriod)
	defer tick.Stop()
	for !t.done(want) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return t.whole(ctx)
}

// whole fails when a file cannot be read here since its blocks are damaged: to wait
// does not mend them. What is damaged in the history is not waited for.
func (t waitTarget) whole(ctx context.Context) error {
	store := t.core.Store()
	if err := store.Survey(ctx); err != nil {
		return err
	}
	if store.Damaged() == 0 {
		return nil
	}
	found := false
	err := t.core.Lacking(ctx, func(_ string, past bool) bool {
		found = !past
		return !found
	})
	if err == nil && found {
		err = control.Errorf(control.Attention, "blocks of %s are damaged here (fetch them from other members with: clachan scrub --repair)", t.name)
	}
	return err
}

func (t waitTarget) done(want model.VV) bool {
	if n, _ := t.core.Missing(); n > 0 {
		return false
	}
	acks := t.core.Acks()
	for _, id := range t.on {
		if a, ok := acks[id]; !ok || a.Missing > 0 || !want.LE(a.K) {
			return false
		}
	}
	return true
}
