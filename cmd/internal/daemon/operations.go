package daemon

import (
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
)

// operations tells what programs ask of the mounts of folders, nil where there are none.
// Name is who asks: one folder, or empty for all.
func (d *Daemon) operations(name string, folders []*folder, now time.Time) *control.Operations {
	mounted := false
	totals := make([]uint64, 2+len(mount.OpBuckets)) // counted, timed, and how many of these in each bucket
	for _, f := range folders {
		v := d.view(f)
		if v.run == nil || v.run.mount == nil {
			continue
		}
		mounted = true
		for _, op := range v.run.mount.Ops() {
			totals[0] += op.Count
			totals[1] += op.Timed
			for i, n := range op.Buckets {
				totals[2+i] += n
			}
		}
	}
	if !mounted {
		return nil
	}
	grew, took := d.rates.grown("operations "+name, now, totals...)
	return &control.Operations{Rate: perSecond(grew[0], took), P50: quantile(0.50, grew[1], grew[2:]), P99: quantile(0.99, grew[1], grew[2:])}
}

// quantile is the time in milliseconds that a share of the timed operations took at most,
// as far as buckets tell it; nil if none was timed. What took longer than all bounds
// counts as the last.
func quantile(share float64, timed uint64, buckets []uint64) *float64 {
	if timed == 0 {
		return nil
	}
	rank, below, from := share*float64(timed), 0.0, time.Duration(0)
	for i, n := range buckets {
		to := mount.OpBuckets[i]
		if below+float64(n) >= rank && n > 0 {
			ms := (float64(from) + float64(to-from)*(rank-below)/float64(n)) / float64(time.Millisecond)
			return &ms
		}
		below, from = below+float64(n), to
	}
	ms := float64(from) / float64(time.Millisecond)
	return &ms
}
