package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	scrubPrefix = "daemon/scrub/"
	scrubRate   = 32 << 20 // bytes of blocks read in a second: a disk has time for others
	scrubMost   = time.Minute
	mendMore    = 10 * time.Second // how much longer members have for a block
	maxLacking  = 1000             // files told of
)

// A scrubMark is how far the blocks of a folder have been verified.
type scrubMark struct {
	Next  []byte    `json:"next"`            // the id of the block with which this round goes on; nil: the first
	Known []byte    `json:"known,omitempty"` // the same of the look at what is known to be damaged; nil: it has ended
	Last  time.Time `json:"last"`            // when the last round ended; zero: never
}

func (r records) scrubbed(id trust.FolderID) (m scrubMark, err error) {
	val, err := r.kv.Get(scrubPrefix + id.String())
	if err == nil && val != nil {
		err = json.Unmarshal(val, &m)
	}
	if err != nil {
		return m, fmt.Errorf("mark of scrub: %w", err)
	}
	return m, nil
}

func (r records) scrub(id trust.FolderID, m scrubMark) error {
	val, err := json.Marshal(m)
	if err == nil {
		err = r.kv.Set(scrubPrefix+id.String(), val)
	}
	if err != nil {
		return fmt.Errorf("mark scrub: %w", err)
	}
	return nil
}

func (r records) unscrub(id trust.FolderID) error { return r.kv.Delete(scrubPrefix + id.String()) }

// scrub verifies some blocks of a folder, and mends what is damaged if asked to.
func (d *Daemon) scrub(ctx context.Context, in control.ScrubRequest) (control.ScrubReport, error) {
	f, err := d.find(in.Folder)
	if err != nil {
		return control.ScrubReport{}, err
	}
	v := d.view(f)
	if v.core() == nil {
		return control.ScrubReport{}, control.Errorf(control.State, "the folder %s is not open: %v", v.rec.Name, v.err)
	}
	if !d.scrubbing.TryLock() {
		return control.ScrubReport{}, control.Errorf(control.State, "another scrub runs: wait for its end")
	}
	defer d.scrubbing.Unlock()
	s := &scrubber{core: v.core(), repair: in.Repair, pace: rate.NewLimiter(scrubRate, blocks.MaxBlock),
		out: control.ScrubReport{Schema: control.Schema, Folder: v.rec.Name}}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its priority
		idle()
		done <- d.unharmed(func() error { return d.scrubFor(ctx, s, f.grant.ID, in) })
	}()
	if err := <-done; err != nil {
		return s.out, fmt.Errorf("scrub %s: %w", v.rec.Name, err)
	}
	return s.out, nil
}

// idle has this thread read when nobody else wants to, where the disk has a
// queue that knows of it. Elsewhere the pace must do.
func idle() {
	const whoProcess, classIdle = 1, 3 << 13
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle)
}

// unharmed turns a panic of work into its failure: the mounts must outlive it.
func (d *Daemon) unharmed(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("scrub failed badly", "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return work()
}

// errOver ends a scrub whose time is over.
var errOver = errors.New("time is over")

// scrubFor goes on with a round until it ends or the time is over. How far it came
// is kept also when it fails.
func (d *Daemon) scrubFor(ctx context.Context, s *scrubber, id trust.FolderID, in control.ScrubRequest) error {
	s.end = time.Now().Add(min(in.For, scrubMost))
	mark, err := d.records.scrubbed(id)
	if err != nil {
		return err
	}
	if in.Known {
		mark.Known = make([]byte, len(blocks.ID{}))
	}
	err = s.known(ctx, &mark)
	for err == nil && !s.out.Done {
		err = s.round(ctx, &mark)
	}
	store := s.core.Store()
	if err == nil || errors.Is(err, errOver) {
		err = store.Survey(ctx) // where there was more than is counted
	}
	s.out.At = 1
	if !s.out.Done {
		s.out.At = mark.at()
	}
	if _, gone := d.find(id.String()); gone != nil { // it was left meanwhile
		return gone
	}
	// What was mended lasts before it is said to be.
	return errors.Join(err, store.Flush(context.WithoutCancel(ctx)), d.records.scrub(id, mark))
}

// at is how far a round is: ids are hashes, and lie evenly.
func (m scrubMark) at() float64 {
	if len(m.Next) < 2 {
		return 0
	}
	return float64(m.Next[0])/256 + float64(m.Next[1])/65536
}

// A scrubber counts what is found.
type scrubber struct {
	core   *syncer.Folder
	repair bool
	end    time.Time
	pace   *rate.Limiter
	told   bool // of something: each scrub comes on
	out    control.ScrubReport
}

// known looks at what is known to be damaged, where such a look has not ended.
func (s *scrubber) known(ctx context.Context, mark *scrubMark) error {
	if mark.Known == nil {
		return nil
	}
	var from blocks.ID
	copy(from[:], mark.Known)
	next, err := s.core.Store().Known(ctx, from, func(v blocks.Verdict) error { return s.tell(ctx, v) })
	mark.Known = nil
	if err != nil {
		mark.Known = next[:]
	}
	return err
}

// round goes on with a round.
func (s *scrubber) round(ctx context.Context, mark *scrubMark) (err error) {
	var next blocks.ID
	copy(next[:], mark.Next)
	next, s.out.Done, err = s.core.Store().Scrub(ctx, next, func(v blocks.Verdict) error {
		if err := s.tell(ctx, v); err != nil {
			return err
		}
		return s.pace.WaitN(ctx, int(v.Size))
	})
	mark.Next = next[:]
	if s.out.Done {
		mark.Last = time.Now().UTC().Truncate(time.Second)
	}
	return err
}

// tell takes in one verdict, unless the time is over.
func (s *scrubber) tell(ctx context.Context, v blocks.Verdict) error {
	if s.told && time.Now().After(s.end) {
		return errOver
	}
	s.told = true
	if v.Err != nil {
		if err := s.mend(ctx, v); err != nil {
			return err
		}
		s.out.Damaged++
	}
	s.out.Blocks++
	s.out.Bytes += uint64(v.Size)
	return nil
}

// mend fetches a damaged block, if it is to. That nobody has it is no failure of the scrub.
func (s *scrubber) mend(ctx context.Context, v blocks.Verdict) error {
	if !s.repair {
		return nil
	}
	short, cancel := context.WithDeadline(ctx, s.end.Add(mendMore))
	defer cancel()
	err := s.core.Mend(short, v.ID, v.Size)
	switch {
	case err == nil:
		s.out.Repaired++
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syncer.ErrOffline), errors.Is(err, context.DeadlineExceeded):
	default:
		return err
	}
	return nil
}

// lacking tells which files lack blocks that are damaged or lost here.
func (d *Daemon) lacking(ctx context.Context, in control.LackingRequest) (control.Lacking, error) {
	out := control.Lacking{Schema: control.Schema, Files: []string{}, Past: []string{}}
	f, err := d.find(in.Folder)
	if err != nil {
		return out, err
	}
	v := d.view(f)
	if v.core() == nil {
		return out, control.Errorf(control.State, "the folder %s is not open: %v", v.rec.Name, v.err)
	}
	out.Away = max(0, len(d.others(v))-d.node.Remote(v.grant.ID).Online())
	return out, v.core().Lacking(ctx, func(path string, past bool) bool {
		switch {
		case len(out.Files)+len(out.Past) >= maxLacking:
			out.More = true
		case past:
			out.Past = append(out.Past, path)
		default:
			out.Files = append(out.Files, path)
		}
		return !out.More
	})
}
