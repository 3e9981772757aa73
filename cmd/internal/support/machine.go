package support

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"golang.org/x/sys/unix"
)

// HideMachine has the veil know who and where this is.
func (b *Bundle) HideMachine(home string, p config.Places) error {
	b.Veil.Hide(p.Data, "/DATA")
	b.Veil.Hide(filepath.Dir(p.Config), "/CONFIG")
	b.Veil.Hide(filepath.Dir(p.Socket), "/RUN")
	if home != "" {
		b.Veil.Hide(home, "/HOME")
		b.Veil.hideUser(filepath.Base(home))
	}
	if u, err := user.Current(); err == nil {
		b.Veil.hideUser(u.Username)
		b.Veil.hideUser(strings.TrimRight(u.Name, ","))
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if host != "localhost" {
		short, _, _ := strings.Cut(host, ".")
		b.Veil.Hide(host, "HOST")
		b.Veil.Hide(short, "HOST")
	}
	return nil
}

// hideUser hides the name of a user that is not every machine's.
func (v *Veil) hideUser(name string) {
	if name != "root" && name != "/" {
		v.Hide(name, "USER")
	}
}

// Machine takes in what the system says of itself.
func (b *Bundle) Machine(ctx context.Context) {
	var kernel unix.Utsname
	err := unix.Uname(&kernel)
	b.Text("kernel.txt", "the kernel", fmt.Sprintf("%s %s %s %s\n", unix.ByteSliceToString(kernel.Sysname[:]), unix.ByteSliceToString(kernel.Release[:]),
		unix.ByteSliceToString(kernel.Version[:]), unix.ByteSliceToString(kernel.Machine[:])), err)
	b.file("os-release", "the distribution", "/etc/os-release")
	b.file("fuse.conf", "what users may mount", "/etc/fuse.conf")
	b.mounts()
	for _, who := range []string{"--user", "--system"} {
		out, err := exec.CommandContext(ctx, "systemctl", who, "show", "clachan.service", "--property",
			"LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,ExecMainStatus,ActiveEnterTimestamp,MemoryCurrent,TasksCurrent").Output()
		b.Text("service"+strings.TrimLeft(who, "-")+".txt", "the service of systemd ("+strings.TrimLeft(who, "-")+")", string(out), err)
	}
}

func (b *Bundle) file(name, what, path string) {
	text, err := os.ReadFile(path)
	b.Text(name, what, string(text), err)
}

// mounts takes in the lines of mountinfo that are of clachan. Where no daemon says of
// which folder one is, it is told by its number.
func (b *Bundle) mounts() {
	text, err := os.ReadFile("/proc/self/mountinfo")
	b.Text("mounts.txt", "mounts of clachan", b.ours(string(text)), err)
}

func (b *Bundle) ours(mountinfo string) string {
	var lines strings.Builder
	n := 0
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		at, of := strings.Fields(head), strings.Fields(tail)
		if !ok || len(at) < 5 || len(of) < 2 || of[0] != "fuse.clachan" {
			continue
		}
		n++
		b.Veil.Hide(at[4], fmt.Sprintf("/DIR-of-mount-%d", n))
		b.Veil.Hide(strings.TrimPrefix(of[1], "clachan:"), fmt.Sprintf("mount-%d", n))
		lines.WriteString(line)
	}
	return lines.String()
}

// Store takes in how much there is in the parts of the data folder.
func (b *Bundle) Store(data string) {
	type part struct{ files, bytes int64 }
	parts := map[string]part{}
	var order []string
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it went meanwhile
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(rel, "/")
		p, known := parts[top]
		if !known {
			order = append(order, top)
		}
		parts[top] = part{p.files + 1, p.bytes + info.Size()}
		return nil
	})
	var text strings.Builder
	for _, top := range order {
		fmt.Fprintf(&text, "%-12s %8d files %14d bytes\n", top, parts[top].files, parts[top].bytes)
	}
	b.Text("store.txt", "what the data folder holds", text.String(), err)
}
