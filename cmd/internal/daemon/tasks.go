package daemon

import (
	"context"
	"slices"
	"sync"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/plain"
	"github.com/clachanfs/clachan/syncer"
)

// tasks are the long things that go on, for status to tell how far they are.
type tasks struct {
	mu   sync.Mutex // guards list
	list []*task
}

type task struct {
	control.Task
	count func() uint64 // of what is done, if somebody else counts
}

// begin adds a task; end removes it.
func (t *tasks) begin(x *task) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, x)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.list = slices.DeleteFunc(t.list, func(y *task) bool { return y == x })
	}
}

// step notes that one more of x is done.
func (t *tasks) step(x *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Done++
}

// all tells of the tasks of one folder, or of all if it is empty.
func (t *tasks) all(folder string) []control.Task {
	t.mu.Lock()
	var list []task
	for _, x := range t.list {
		if folder == "" || x.Folder == folder {
			list = append(list, *x)
		}
	}
	t.mu.Unlock()
	out := []control.Task{}
	for _, x := range list {
		if x.count != nil {
			x.Done = x.count()
		}
		out = append(out, x.Task)
	}
	return out
}

// watchScan is the task of reading a plain directory for the first time.
func (d *Daemon) watchScan(ctx context.Context, name string, p *plain.Dir, core *syncer.Folder) {
	x := &task{Task: control.Task{Kind: control.TaskScan, Folder: name, Unit: "files"}, count: func() uint64 {
		s, err := core.Stats()
		if err != nil {
			return 0
		}
		return s.Files
	}}
	defer d.tasks.begin(x)()
	select {
	case <-ctx.Done():
	case <-p.Ready():
	}
}
