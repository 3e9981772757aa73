package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
)

// healthy is a machine of which nothing is to be said.
func healthy() Machine {
	return Machine{
		UID: 7, LetsOthers: true, Data: "/d", Owner: 7, Mode: fs.ModeDir | 0o700, Free: 1 << 40, Total: 1 << 41, OpenFiles: 1 << 16,
		Queue: 1 << 14, Now: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC), Synced: true, Running: "1", Own: "1",
		Status: control.Status{Addrs: []string{"/ip4/127.0.0.1/tcp/1/p2p/x", "/ip4/192.0.2.7/tcp/1/p2p/x"},
			Folders: []control.FolderStatus{{Name: "Team", State: control.StateSynced}}},
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	for _, tt := range []struct {
		name        string
		change      func(*Machine)
		level, what string
		says, cure  string
	}{
		{"no FUSE", func(m *Machine) { m.Mount = errors.New("no /dev/fuse: modprobe fuse") }, "fail", "fuse", "modprobe", ""},
		{"a user's mounts are his", func(m *Machine) { m.LetsOthers = false }, "note", "fuse.conf", "not even root", "user_allow_other"},
		{"stale", func(m *Machine) { m.Stale = []string{"/home/ana/Team"} }, "fail", "mounts", "/home/ana/Team", "clachan umount --stale"},
		{"settings", func(m *Machine) { m.Settings = errors.New("clachan.toml:3: unknown key") }, "fail", "settings", ":3:", "clachan config edit"},
		{"no data yet", func(m *Machine) { m.DataErr = fs.ErrNotExist }, "note", "data", "not there yet", ""},
		{"data of another", func(m *Machine) { m.Owner = 0 }, "fail", "data", "belongs to user 0", ""},
		{"data that is open", func(m *Machine) { m.Mode = fs.ModeDir | 0o755 }, "warn", "data", "others may look", "chmod 700 /d"},
		{"key that is open", func(m *Machine) { m.Loose = []string{"/d/identity/key"} }, "fail", "data", "/d/identity/key", "chmod 600"},
		{"data that cannot be read", func(m *Machine) { m.DataErr = fs.ErrPermission }, "fail", "data", "permission", "/d"},
		{"a disk elsewhere", func(m *Machine) { m.Remote = true }, "warn", "data", "another machine", "CLACHAN_DATA"},
		{"a full disk", func(m *Machine) { m.Free = 1 << 20 }, "fail", "disk", "1.0 MiB of 2.0 TiB", "delete"},
		{"a disk that fills", func(m *Machine) { m.Free = 1 << 29 }, "warn", "disk", "512 MiB", "delete"},
		{"no inodes", func(m *Machine) { m.Inodes = 12 }, "warn", "disk", "12 more files", "delete"},
		{"a clock of long ago", func(m *Machine) { m.Now = time.Unix(0, 0).UTC() }, "fail", "clock", "1970-01-01", "timedatectl"},
		{"a clock of its own", func(m *Machine) { m.Synced = false }, "note", "clock", "nothing keeps it right", "timedatectl"},
		{"few files", func(m *Machine) { m.OpenFiles = 256 }, "warn", "limits", "256 files", "ulimit"},
		{"few events", func(m *Machine) { m.Queue = 128 }, "note", "limits", "after 128", "max_queued_events"},
		{"no daemon", func(m *Machine) { m.DaemonErr = control.Errorf(control.NoDaemon, "none") }, "note", "daemon", "none is running", "clachan up"},
		{"another's daemon", func(m *Machine) { m.DaemonErr = control.Errorf(control.Denied, "another user's") }, "fail", "daemon", "another user's", ""},
		{"an old daemon", func(m *Machine) { m.Running = "0" }, "warn", "daemon", "version 0", "restart"},
		{"loopback", func(m *Machine) { m.Status.Addrs = m.Status.Addrs[:1] }, "warn", "network", "loopback only", "config set listen"},
		{"a folder in error", func(m *Machine) {
			m.Status.Folders[0].State, m.Status.Folders[0].Error = control.StateError, "not empty"
		}, "fail", "Team", "not empty", "clachan mount Team"},
		{"conflicts", func(m *Machine) {
			m.Status.Folders[0].State, m.Status.Folders[0].Conflicts = control.StateConflict, 2
		}, "warn", "Team", "2 conflicts", ""},
		{"only here", func(m *Machine) {
			m.Status.Folders[0].State, m.Status.Folders[0].OnlyHere = control.StateOnlyHere, 3
		}, "note", "Team", "3 files", "clachan wait"},
	} {
		m := healthy()
		tt.change(&m)
		all := slices.DeleteFunc(Examine(m), func(f control.Finding) bool { return f.Level == control.LevelOK })
		if len(all) != 1 {
			t.Errorf("%s: found %+v", tt.name, all)
			continue
		}
		if f := all[0]; f.Level != tt.level || f.What != tt.what || !strings.Contains(f.Text, tt.says) || !strings.Contains(f.Cure, tt.cure) {
			t.Errorf("%s: found %+v", tt.name, f)
		}
	}
	for _, f := range Examine(healthy()) {
		if f.Level != control.LevelOK {
			t.Errorf("of a healthy machine: %+v", f)
		}
	}
}

func TestAKeyThatOthersMayReadIsSeen(t *testing.T) {
	dir := t.TempDir()
	places := config.Places{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "none"), Mounts: "/m"}
	none := func(string) string { return "" }
	m, err := Look(places, none)
	if err != nil || !errors.Is(m.DataErr, fs.ErrNotExist) {
		t.Fatalf("%v, %v", err, m.DataErr)
	}
	if err := os.MkdirAll(places.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if m, err = Look(places, none); err != nil || m.DataErr != nil || m.Total == 0 || m.OpenFiles == 0 || m.Queue == 0 {
		t.Fatalf("%v, %+v", err, m)
	}
	if err := os.WriteFile(places.Identity(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err = Look(places, none); err != nil || m.DataErr != nil || len(m.Loose) != 0 {
		t.Fatalf("%v, %v, %v", err, m.DataErr, m.Loose)
	}
	if err := os.Chmod(places.Identity(), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err = Look(places, none); err != nil || !slices.Equal(m.Loose, []string{places.Identity()}) {
		t.Fatalf("%v, %v", err, m.Loose)
	}
}
