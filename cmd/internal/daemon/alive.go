package daemon

import (
	"context"
	"fmt"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

// Alive asks every mount through the kernel, and reads the store. It lasts as long as one of them hangs.
func (d *Daemon) Alive() error {
	for _, f := range d.all() {
		if v := d.view(f); v.mounted() && v.run.mount != nil {
			if err := v.run.mount.Answers(); err != nil && d.view(f).run == v.run { // else it was stopped meanwhile
				return fmt.Errorf("folder %s: %w", v.rec.Name, err)
			}
		}
	}
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return nil
	}
	_, err := d.records.load()
	return err
}

// Summary is how the daemon is, in a line.
func (d *Daemon) Summary() string {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return "stopped"
	}
	st, err := d.status(context.Background(), control.StatusRequest{})
	if err != nil {
		return err.Error()
	}
	return summary(st)
}

func summary(st control.Status) string {
	if len(st.Folders) == 0 {
		return "no folders"
	}
	folders := map[string]int{}
	for _, f := range st.Folders {
		folders[f.State]++
	}
	var parts []string
	for _, s := range control.States {
		if n := folders[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	online := 0
	for _, p := range st.Peers {
		if p.Online {
			online++
		}
	}
	return fmt.Sprintf("folders: %s; %d of %d peers online", strings.Join(parts, ", "), online, len(st.Peers))
}
