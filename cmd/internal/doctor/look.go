package doctor

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/fs/mount"
	"golang.org/x/sys/unix"
)

// Look gathers what can be seen without a daemon.
func Look(places config.Places, env config.Env) (Machine, error) {
	m := Machine{UID: os.Geteuid(), Mount: mount.Possible(), LetsOthers: mount.MayLetOthers(), Data: places.Data, Now: time.Now()}
	_, m.Settings = config.Load(places, env)
	var err error
	if m.Stale, err = mount.Stale(); err != nil {
		return m, err
	}
	m.DataErr = m.lookAtData(places)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		m.OpenFiles = limit.Max // the runtime raises it as far
	}
	m.Queue = number("/proc/sys/fs/inotify/max_queued_events")
	var clock unix.Timex
	state, err := unix.Adjtimex(&clock)
	m.Synced = err == nil && state != unix.TIME_ERROR
	return m, nil
}

// number reads one of the kernel's; 0 if it has none.
func number(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// remote are the types of filesystems of other machines.
var remote = map[int64]bool{unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true, unix.AFS_SUPER_MAGIC: true, unix.V9FS_MAGIC: true}

func (m *Machine) lookAtData(p config.Places) error {
	st, err := os.Stat(p.Data)
	if err != nil {
		return err
	}
	m.Mode = st.Mode()
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		m.Owner = int(sys.Uid)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(p.Data, &disk); err != nil {
		return err
	}
	m.Remote = remote[int64(disk.Type)]
	m.Free, m.Total, m.Inodes = disk.Bavail*uint64(disk.Bsize), disk.Blocks*uint64(disk.Bsize), disk.Ffree
	id, err := os.Stat(p.Identity())
	switch {
	case errors.Is(err, fs.ErrNotExist): // no daemon has run yet
		return nil
	case err == nil && id.Mode().Perm()&0o077 != 0:
		m.Loose = append(m.Loose, p.Identity())
	}
	return err
}
