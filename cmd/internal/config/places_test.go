package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlaces(t *testing.T) {
	tmpSocket := fmt.Sprintf("/tmp/clachan-%d/api.sock", os.Getuid())
	tests := []struct {
		name string
		f    Flags
		env  Env
		root bool // holds for root only
		want Places
	}{
		{
			"user", Flags{}, env(), false,
			Places{"/home/ana/.config/clachan/clachan.toml", "/home/ana/.local/share/clachan", tmpSocket, "/home/ana/Clachan"},
		},
		{
			"user with XDG directories", Flags{},
			env("XDG_CONFIG_HOME", "/c", "XDG_DATA_HOME", "/d", "XDG_RUNTIME_DIR", "/run/user/7"), false,
			Places{"/c/clachan/clachan.toml", "/d/clachan", "/run/user/7/clachan/api.sock", "/home/ana/Clachan"},
		},
		{
			"relative XDG directories are ignored", Flags{}, env("XDG_CONFIG_HOME", "c"), false,
			Places{"/home/ana/.config/clachan/clachan.toml", "/home/ana/.local/share/clachan", tmpSocket, "/home/ana/Clachan"},
		},
		{
			"home by variable", Flags{}, env("CLACHAN_HOME", "/h"), false,
			Places{"/h/clachan.toml", "/h/data", "/h/api.sock", "/home/ana/Clachan"},
		},
		{
			"home by flag beats variables", Flags{Home: "/i"},
			env("CLACHAN_HOME", "/h", "CLACHAN_SOCKET", "/s", "CLACHAN_DATA", "/d", "CLACHAN_CONFIG", "/c"), false,
			Places{"/i/clachan.toml", "/i/data", "/i/api.sock", "/home/ana/Clachan"},
		},
		{
			"single places by variable", Flags{},
			env("CLACHAN_HOME", "/h", "CLACHAN_SOCKET", "/s", "CLACHAN_DATA", "/d", "CLACHAN_CONFIG", "/c"), false,
			Places{"/c", "/d", "/s", "/home/ana/Clachan"},
		},
		{
			"single places by flag", Flags{Home: "/h", Socket: "/s2", Config: "/c2"}, env("CLACHAN_SOCKET", "/s"), false,
			Places{"/c2", "/h/data", "/s2", "/home/ana/Clachan"},
		},
		{
			"system", Flags{System: true}, env(), false,
			Places{"/etc/clachan/clachan.toml", "/var/lib/clachan", "/run/clachan/api.sock", "/srv"},
		},
		{
			"systemd directories", Flags{}, env("STATE_DIRECTORY", "/var/lib/clachan:/var/lib/more"), true,
			Places{"/etc/clachan/clachan.toml", "/var/lib/clachan", "/run/clachan/api.sock", "/srv"},
		},
		{
			"every systemd directory", Flags{},
			env("STATE_DIRECTORY", "/a", "RUNTIME_DIRECTORY", "/b", "CONFIGURATION_DIRECTORY", "/c"), true,
			Places{"/c/clachan.toml", "/a", "/b/api.sock", "/srv"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Geteuid() != 0 {
				t.Skip("system places are root's")
			}
			got, err := Find(tt.f, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestPlacesThatCannotBe(t *testing.T) {
	if _, err := Find(Flags{Home: "/h", System: true}, env()); err == nil {
		t.Error("--home and --system were both taken")
	}
	if _, err := Find(Flags{}, func(string) string { return "" }); err == nil {
		t.Error("found places without HOME")
	}
}

func TestSocketSearchOrder(t *testing.T) {
	user, system := fmt.Sprintf("/tmp/clachan-%d/api.sock", os.Getuid()), "/run/clachan/api.sock"
	tests := []struct {
		name string
		f    Flags
		env  Env
		want []string
	}{
		{"flag", Flags{Socket: "/f", Home: "/h"}, env("CLACHAN_SOCKET", "/s"), []string{"/f"}},
		{"home flag", Flags{Home: "/h"}, env("CLACHAN_SOCKET", "/s"), []string{"/h/api.sock"}},
		{"socket variable", Flags{}, env("CLACHAN_SOCKET", "/s", "CLACHAN_HOME", "/h"), []string{"/s"}},
		{"home variable", Flags{}, env("CLACHAN_HOME", "/h"), []string{"/h/api.sock"}},
		{"system", Flags{System: true}, env(), []string{system}},
		{"nothing", Flags{}, env(), []string{user, system}},
		{"nothing, runtime directory", Flags{}, env("XDG_RUNTIME_DIR", "/run/user/7"), []string{"/run/user/7/clachan/api.sock", system}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Sockets(tt.f, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestClientAndDaemonMeetAtTheSocket(t *testing.T) {
	for _, f := range []Flags{{}, {Home: "/h"}, {Socket: "/s"}, {Home: "/h", Socket: "/s"}, {System: true}} {
		for _, e := range []Env{env(), env("CLACHAN_HOME", "/e"), env("CLACHAN_SOCKET", "/t"), env("CLACHAN_HOME", "/e", "CLACHAN_SOCKET", "/t")} {
			p, err := Find(f, e)
			if err != nil {
				continue // --system with a home
			}
			socks, err := Sockets(f, e)
			if err != nil {
				t.Fatal(err)
			}
			if socks[0] != p.Socket {
				t.Errorf("%+v: the daemon listens at %s, clients try %v", f, p.Socket, socks)
			}
		}
	}
}

func TestDirectoriesAreForTheOwner(t *testing.T) {
	dir := t.TempDir()
	p := Places{Data: filepath.Join(dir, "a", "data"), Socket: filepath.Join(dir, "b", "api.sock")}
	if err := p.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{p.Data, filepath.Dir(p.Socket)} {
		st, err := os.Stat(d)
		if err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, error %v", d, st.Mode(), err)
		}
	}
}

func TestSharedSocketDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	private, open, link := filepath.Join(dir, "p"), filepath.Join(dir, "o"), filepath.Join(dir, "l")
	for path, mode := range map[string]os.FileMode{private: 0o700, open: 0o755} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(private, link); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{private: true, open: false, link: false} {
		if err := checkPrivate(path); (err == nil) != ok {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}
