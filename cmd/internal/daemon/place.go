package daemon

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// place says where a database is: on which machine, on which filesystem, and
// which directory of it. A copy is in another place, or it lies where the
// original lay, which then is gone; peers notice that.
func place(dir string) ([]byte, error) {
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("machine id: %w", err)
	}
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", dir, err)
	}
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return fmt.Appendf(nil, "%s %x %x %d", strings.TrimSpace(string(machine)), fs.Type, fs.Fsid.Val, st.Ino), nil
}
