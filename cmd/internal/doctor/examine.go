package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
)

// A Machine is what is seen of it.
type Machine struct {
	UID        int
	Mount      error // why this user cannot mount
	LetsOthers bool  // the mounts of this user may be seen by others: fuse.conf says so, or he is root
	Stale      []string
	Settings   error
	Data       string // the data folder
	DataErr    error  // of looking at it
	Mode       fs.FileMode
	Owner      int
	Loose      []string // what is secret in it, and others may read
	Remote     bool     // it is on the disk of another machine
	Free       uint64   // bytes
	Total      uint64
	Inodes     uint64 // free, 0: not counted
	OpenFiles  uint64 // a process may have
	Queue      int    // events that the kernel keeps for a watcher
	Now        time.Time
	Synced     bool // the clock, with others

	DaemonErr error // why it was not asked
	Status    control.Status
	Running   string // version of the daemon
	Own       string // of this program
}

// Limits below which something is said.
const (
	freeLow    = 1 << 30
	freeGone   = 64 << 20
	inodesLow  = 10_000
	filesLow   = 4096
	queueLow   = 16384
	clockFirst = 2026 // nothing of this program is older
)

// Examine judges a machine. All is told, in the order in which to look at it.
func Examine(m Machine) []control.Finding {
	var r report
	r.mounts(m)
	r.store(m)
	r.machine(m)
	r.daemon(m)
	return r.found
}

type report struct{ found []control.Finding }

func (r *report) say(level, what, text, cure string) {
	r.found = append(r.found, control.Finding{Level: level, What: what, Text: text, Cure: cure})
}

func (r *report) mounts(m Machine) {
	if m.Mount != nil {
		r.say(control.LevelFail, "fuse", m.Mount.Error(), "")
	} else {
		r.say(control.LevelOK, "fuse", "this user can mount", "")
	}
	if !m.LetsOthers {
		r.say(control.LevelNote, "fuse.conf", "nobody else sees the mounts of this user, not even root: backups that root makes miss them",
			"echo user_allow_other | sudo tee -a /etc/fuse.conf; then mount with -o allow_other")
	}
	for _, dir := range m.Stale {
		r.say(control.LevelFail, "mounts", dir+" is the mount of a daemon that is gone", "clachan umount --stale")
	}
}

func (r *report) store(m Machine) {
	if m.Settings != nil {
		r.say(control.LevelFail, "settings", m.Settings.Error(), "clachan config edit")
	} else {
		r.say(control.LevelOK, "settings", "are right", "")
	}
	switch {
	case errors.Is(m.DataErr, fs.ErrNotExist):
		r.say(control.LevelNote, "data", m.Data+" is not there yet", "")
		return
	case m.DataErr != nil:
		r.say(control.LevelFail, "data", m.DataErr.Error(), "let this user read and write "+m.Data)
		return
	case m.Owner != m.UID:
		r.say(control.LevelFail, "data", fmt.Sprintf("%s belongs to user %d, not to %d", m.Data, m.Owner, m.UID), "run this as that user, or set CLACHAN_DATA")
	case m.Mode.Perm()&0o077 != 0:
		r.say(control.LevelWarn, "data", fmt.Sprintf("others may look into %s", m.Data), "chmod 700 "+m.Data)
	}
	for _, name := range m.Loose {
		r.say(control.LevelFail, "data", "others may read "+name, "chmod 600 "+name)
	}
	if m.Remote {
		r.say(control.LevelWarn, "data", m.Data+" is on a disk of another machine, which may not keep what it says to have kept", "set CLACHAN_DATA to a directory of a local disk")
	}
	free := fmt.Sprintf("%s of %s are free", humanize.IBytes(m.Free), humanize.IBytes(m.Total))
	switch {
	case m.Free < freeGone:
		r.say(control.LevelFail, "disk", free+": nothing more can be written", "delete something on the disk of "+m.Data)
	case m.Free < freeLow:
		r.say(control.LevelWarn, "disk", free+": history is given up to make room", "delete something on the disk of "+m.Data)
	case m.Inodes > 0 && m.Inodes < inodesLow:
		r.say(control.LevelWarn, "disk", fmt.Sprintf("only %d more files fit on it", m.Inodes), "delete small files on the disk of "+m.Data)
	default:
		r.say(control.LevelOK, "disk", free, "")
	}
}

func (r *report) machine(m Machine) {
	switch {
	case m.Now.Year() < clockFirst:
		r.say(control.LevelFail, "clock", fmt.Sprintf("it is %s here", m.Now.Format(time.DateTime)), "timedatectl set-ntp true")
	case !m.Synced:
		r.say(control.LevelNote, "clock", "nothing keeps it right: the times of files may be wrong; what is newer is not decided by them", "timedatectl set-ntp true")
	default:
		r.say(control.LevelOK, "clock", "is kept right", "")
	}
	if m.OpenFiles < filesLow {
		r.say(control.LevelWarn, "limits", fmt.Sprintf("a process may have %d files open", m.OpenFiles), "ulimit -n 65536")
	}
	if m.Queue > 0 && m.Queue < queueLow {
		r.say(control.LevelNote, "limits", fmt.Sprintf("programs that watch files lose events after %d", m.Queue), fmt.Sprintf("sysctl fs.inotify.max_queued_events=%d", queueLow))
	}
}

func (r *report) daemon(m Machine) {
	if e, ok := errors.AsType[*control.Error](m.DaemonErr); ok && e.Code == control.NoDaemon {
		r.say(control.LevelNote, "daemon", "none is running", "clachan up DIR, or clachan service install --user")
		return
	}
	if m.DaemonErr != nil {
		r.say(control.LevelFail, "daemon", m.DaemonErr.Error(), "")
		return
	}
	if m.Running != m.Own {
		r.say(control.LevelWarn, "daemon", fmt.Sprintf("it is version %s, this program %s", m.Running, m.Own), "restart it")
	} else {
		r.say(control.LevelOK, "daemon", "answers", "")
	}
	if reachable(m.Status.Addrs) {
		r.say(control.LevelOK, "network", "members can reach "+m.Status.Addrs[0], "")
	} else {
		r.say(control.LevelWarn, "network", "no other machine can reach this one: it listens on loopback only", "clachan config set listen 0.0.0.0:22170")
	}
	for _, f := range m.Status.Folders {
		r.folder(f)
	}
}

// folder tells of one; that nobody is there is no fault of this machine.
func (r *report) folder(f control.FolderStatus) {
	if f.Damaged > 0 {
		r.say(control.LevelWarn, f.Name, fmt.Sprintf("%d damaged blocks", f.Damaged), "clachan scrub --repair")
	}
	switch f.State {
	case control.StateError:
		r.say(control.LevelFail, f.Name, f.Error, "clachan mount "+f.Name)
	case control.StateConflict:
		r.say(control.LevelWarn, f.Name, fmt.Sprintf("%d conflicts: two versions stand side by side", f.Conflicts), "remove or rename those you do not want")
	case control.StateOffline:
		r.say(control.LevelNote, f.Name, "no other member is connected", "")
	case control.StateOnlyHere:
		text := fmt.Sprintf("%d files are on this machine only, for now", f.OnlyHere)
		if f.OnlyHereMore {
			text = "something is on this machine only, for now"
		}
		r.say(control.LevelNote, f.Name, text, "clachan wait "+f.Name+" --on all")
	default:
		r.say(control.LevelOK, f.Name, f.State, "")
	}
}

// reachable tells whether one of these multiaddrs, /ip4/ADDR/…, is of a network.
func reachable(addrs []string) bool {
	for _, a := range addrs {
		parts := strings.Split(a, "/")
		if len(parts) < 3 {
			continue
		}
		if ip, err := netip.ParseAddr(parts[2]); err == nil && !ip.IsLoopback() {
			return true
		}
	}
	return false
}
