package daemon

import (
	"context"
	"fmt"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
)

// maxProblems bounds a report: what is that broken needs no longer list.
const maxProblems = 1000

// check looks at every row and every block of every folder.
func (d *Daemon) check(ctx context.Context, _ control.None) (control.CheckReport, error) {
	rep := control.CheckReport{Schema: control.Schema, Problems: []string{}}
	all := d.all()
	x := &task{Task: control.Task{Kind: control.TaskCheck, Total: uint64(2 * len(all)), Unit: "tables"}} // rows and blocks of each
	defer d.tasks.begin(x)()
	for _, f := range all {
		v := d.view(f)
		if v.core() == nil {
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s: not open: %v", v.rec.Name, v.err))
			d.tasks.step(x)
			d.tasks.step(x)
			continue
		}
		rep.Folders++
		found := func(err error) {
			if len(rep.Problems) < maxProblems {
				rep.Problems = append(rep.Problems, fmt.Sprintf("%s: %v", v.rec.Name, err))
			}
		}
		if err := v.core().Check(ctx, found); err != nil {
			return rep, fmt.Errorf("check %s: %w", v.rec.Name, err)
		}
		d.tasks.step(x)
		err := v.core().Store().Check(ctx, func(id blocks.ID, err error) { found(fmt.Errorf("block %s: %w", id, err)) })
		if err != nil {
			return rep, fmt.Errorf("check %s: %w", v.rec.Name, err)
		}
		d.tasks.step(x)
	}
	return rep, nil
}
