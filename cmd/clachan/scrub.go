package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func newScrub(a *app) *cobra.Command {
	var s scrub
	c := &cobra.Command{
		Use:   "scrub [NAME]",
		Short: "Read and verify every stored block, and mend what is damaged",
		Long: `Read and verify every stored block of the folder called NAME, or of all: what is
read seldom may be damaged on the disk for long before somebody sees it. It goes
slowly, beside other work, and where the last one ended. With --repair damaged
blocks are fetched from members that have them. What stands only in the files of
a plain directory is not stored, and not read.

Exit code 0 when all is well, 7 when something was damaged and is mended, or was
not to be; 8 when members that are not connected may have what is damaged here;
11 when nobody else has it. Then the files are named.`,
		Example: `  clachan scrub
  clachan scrub Photos --repair --for 1h`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			if s.limit < 0 {
				return control.Errorf(control.Usage, "--for takes a time, not %v", s.limit)
			}
			s.app = a
			return s.run(c.Context(), arg(args, 0))
		},
	}
	c.Flags().BoolVar(&s.repair, "repair", false, "fetch what is damaged from members")
	c.Flags().DurationVar(&s.limit, "for", 0, "end after that time; the next one goes on from there")
	return c
}

const (
	scrubSlice = 10 * time.Second // how long the daemon verifies before it tells how far it is
	scrubMore  = 20 * time.Second // how much longer that may take, for blocks that are being fetched
)

type scrub struct {
	*app
	repair bool
	limit  time.Duration // 0: none
	shown  atomic.Pointer[control.ScrubReport]
}

func (s *scrub) run(ctx context.Context, name string) error {
	client, err := s.client(ctx)
	if err != nil {
		return err
	}
	st, err := control.GetStatus.CallWithin(ctx, client, s.timeout, control.StatusRequest{Folder: name})
	if err != nil {
		return err
	}
	slices.SortStableFunc(st.Folders, func(a, b control.FolderStatus) int { return lastScrub(a).Compare(lastScrub(b)) })
	out := control.Scrubs{Schema: control.Schema, Folders: []control.Scrubbed{}}
	start := time.Now()
	var failed []error
	for _, f := range st.Folders {
		left := time.Duration(0)
		if s.limit > 0 {
			if left = s.limit - time.Since(start); left <= 0 {
				break
			}
		}
		var rep control.Scrubbed
		err := during(ctx, s.app, s.at, func(ctx context.Context) (err error) {
			rep, err = s.folder(ctx, client, f.Name, left)
			return err
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others may be well
			failed = append(failed, err)
			continue
		}
		out.Folders = append(out.Folders, rep)
	}
	if err := s.print(out, func(w io.Writer) {
		for _, f := range out.Folders {
			writeScrubbed(w, f)
		}
	}); err != nil {
		return err
	}
	return errors.Join(append(failed, s.verdict(out.Folders))...)
}

// at tells how far the folder is that is being scrubbed.
func (s *scrub) at(context.Context) (progress, error) {
	p := progress{what: "verifying"}
	if r := s.shown.Load(); r != nil {
		p.what += " " + legible(r.Folder)
		if r.Bytes > 0 {
			p.more = fmt.Sprintf("%.0f %% of this round, %s read", 100*r.At, humanize.IBytes(r.Bytes))
		}
	}
	return p, nil
}

// lastScrub is the zero time if there was none.
func lastScrub(f control.FolderStatus) (t time.Time) {
	if f.Scrubbed != nil {
		t = *f.Scrubbed
	}
	return t
}

// folder scrubs one, for as long as is left.
func (s *scrub) folder(ctx context.Context, client *control.Client, name string, left time.Duration) (sum control.Scrubbed, err error) {
	end := time.Now().Add(left)
	sum.Folder = name
	s.shown.Store(&control.ScrubReport{Folder: name})
	for first := true; ; first = false {
		slice := scrubSlice
		if left > 0 {
			slice = min(slice, max(0, time.Until(end)))
		}
		rep, err := control.Scrub.CallWithin(ctx, client, slice+scrubMore+s.timeout, control.ScrubRequest{Folder: name, Repair: s.repair, Known: first, For: slice})
		if err != nil {
			return sum, err
		}
		sum.Blocks, sum.Bytes = sum.Blocks+rep.Blocks, sum.Bytes+rep.Bytes
		sum.Damaged, sum.Repaired = sum.Damaged+rep.Damaged, sum.Repaired+rep.Repaired
		sum.At, sum.Done = rep.At, rep.Done
		if rep.Done || left > 0 && time.Now().After(end) {
			break
		}
		now := sum.ScrubReport
		s.shown.Store(&now)
	}
	if sum.Damaged == sum.Repaired {
		return sum, nil
	}
	lacking, err := control.GetLacking.Call(ctx, client, control.LackingRequest{Folder: name})
	sum.Lacking = &lacking
	return sum, err
}

// writeScrubbed tells of one folder.
func writeScrubbed(w io.Writer, f control.Scrubbed) {
	how := "all is well"
	switch left := f.Damaged - f.Repaired; {
	case left > 0:
		how = fmt.Sprintf("%s, %d of them mended", count(f.Damaged, "damaged block", "damaged blocks"), f.Repaired)
	case f.Damaged > 0:
		how = fmt.Sprintf("%s, mended", count(f.Damaged, "damaged block", "damaged blocks"))
	case !f.Done:
		how = fmt.Sprintf("all is well so far; %.0f %% of this round", 100*f.At)
	}
	fmt.Fprintf(w, "%s\t%s, %s verified\t%s\n", legible(f.Folder), count(f.Blocks, "block", "blocks"), humanize.IBytes(f.Bytes), how)
	if f.Lacking == nil {
		return
	}
	for _, path := range f.Files {
		fmt.Fprintf(w, "  damaged: %s\n", legible(path))
	}
	for _, path := range f.Past {
		fmt.Fprintf(w, "  damaged in the history: %s\n", legible(path))
	}
	if len(f.Files)+len(f.Past) == 0 {
		fmt.Fprintln(w, "  no file needs what is not mended: it goes when space is given back")
	}
	if f.More {
		fmt.Fprintln(w, "  and more")
	}
}

// verdict is what the folders together come to, the worst of them.
func (s *scrub) verdict(all []control.Scrubbed) error {
	damaged, lost, away := uint64(0), false, false
	for _, f := range all {
		damaged += f.Damaged
		if f.Lacking != nil && len(f.Files)+len(f.Past) > 0 {
			lost, away = lost || f.Away == 0, away || f.Away > 0
		}
	}
	switch {
	case damaged == 0:
		return nil
	case !s.repair && (lost || away):
		return control.Errorf(control.Attention, "blocks are damaged (fetch them from other members with: clachan scrub --repair)")
	case lost:
		return control.Errorf(control.Damaged, "nobody else has what is damaged: put these files back from a backup")
	case away:
		return control.Errorf(control.Offline, "members that are not connected may have what is damaged: try again when they are")
	}
	return &control.Error{Code: control.Attention}
}
