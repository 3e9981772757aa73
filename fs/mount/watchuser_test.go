package mount_test

import (
	"os"
	"testing"
	"time"
)

func TestOrdinaryUsersHearWhatAPeerDoes(t *testing.T) {
	if os.Getenv(userEnv) == "" {
		ordinary(t)
		return
	}
	s := newServer(t, 2, "")
	hearDeeds(t, s)

	// Where the daemon itself may not do it, watchers hear of the directory.
	a, b := s.mnt(0)+"/d", s.mnt(1)+"/d"
	must(t, os.Mkdir(a, 0o755))
	must(t, os.Chmod(a, 0o555))
	within(t, 10*time.Second, "the directory", func() bool {
		fi, err := os.Stat(b)
		return err == nil && fi.Mode().Perm() == 0o555
	})
	s.tell("part")
	must(t, os.Chmod(a, 0o755))
	write(t, a+"/f", "1")
	must(t, os.Chmod(a, 0o555))
	s.tell("cut")
	w := watch(t, usual, b)
	s.tell("join")
	within(t, 10*time.Second, "something is new", func() bool { return w.has("ATTRIB,ISDIR " + b) })
	if got := read(t, b+"/f"); got != "1" {
		t.Errorf("the file has %q", got)
	}
	s.tell("silent")
}
