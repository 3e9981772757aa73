package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// place says where a database is: on which machine, on which filesystem, which
// directories, and when those were made, for a number is given out again after a
// delete. A copy is in another place, or its files lie in the directory where
// those of the original lay, which then are gone; peers notice that.
func place(dir string) ([]byte, error) {
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("machine id: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", dir, err)
	}
	out := fmt.Appendf(nil, "%s %x %x", strings.TrimSpace(string(machine)), fs.Type, fs.Fsid.Val)
	for _, d := range []string{dir, filepath.Join(dir, "meta")} {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, d, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
			return nil, fmt.Errorf("stat %s: %w", d, err)
		}
		out = fmt.Appendf(out, " %d", st.Ino)
		if st.Mask&unix.STATX_BTIME != 0 {
			out = fmt.Appendf(out, "@%d.%09d", st.Btime.Sec, st.Btime.Nsec)
		}
	}
	return out, nil
}
