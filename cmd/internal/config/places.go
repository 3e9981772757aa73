package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Places are the paths of one instance, all absolute.
type Places struct {
	Config string // the configuration file, which need not exist
	Data   string // the data folder
	Socket string // the API socket
	Mounts string // where folders without a directory of their own are mounted
}

// Under the data folder.
func (p Places) Identity() string { return filepath.Join(p.Data, "identity") }
func (p Places) Staging() string  { return filepath.Join(p.Data, "staging") }
func (p Places) Lock() string     { return filepath.Join(p.Data, "lock") }
func (p Places) Log() string      { return filepath.Join(p.Data, "daemon.log") }

// Flags are the global flags that choose places; empty means not given.
type Flags struct {
	Home, Config, Socket string
	System               bool
}

// Env looks a variable up; os.Getenv in the product.
type Env func(string) string

// Find settles the places of an instance from flags and environment. The
// --home flag is stronger than variables that name single places, or two
// instances started from one shell could share a socket.
func Find(f Flags, env Env) (Places, error) {
	p, err := layout(f, env)
	if err != nil {
		return Places{}, err
	}
	if f.Home == "" {
		override(&p.Config, env("CLACHAN_CONFIG"))
		override(&p.Data, env("CLACHAN_DATA"))
		override(&p.Socket, env("CLACHAN_SOCKET"))
	}
	override(&p.Config, f.Config)
	override(&p.Socket, f.Socket)
	for _, s := range []*string{&p.Config, &p.Data, &p.Socket, &p.Mounts} {
		if *s, err = filepath.Abs(*s); err != nil {
			return Places{}, fmt.Errorf("places: %w", err)
		}
	}
	return p, nil
}

// layout is Find before single places are overridden.
func layout(f Flags, env Env) (Places, error) {
	home := f.Home
	if home == "" {
		home = env("CLACHAN_HOME")
	}
	switch {
	case home != "" && f.System:
		return Places{}, fmt.Errorf("places: --system and a home (%s) exclude each other", home)
	case home != "":
		return Places{
			Config: filepath.Join(home, "clachan.toml"),
			Data:   filepath.Join(home, "data"),
			Socket: filepath.Join(home, "api.sock"),
			Mounts: userMounts(env),
		}, nil
	}
	conf, data, run := first(env("CONFIGURATION_DIRECTORY")), first(env("STATE_DIRECTORY")), first(env("RUNTIME_DIRECTORY"))
	var p Places
	var err error
	if f.System || ((conf != "" || data != "" || run != "") && os.Geteuid() == 0) {
		p = system()
	} else if p, err = user(env); err != nil {
		return Places{}, err
	}
	if conf != "" {
		p.Config = filepath.Join(conf, "clachan.toml")
	}
	if data != "" {
		p.Data = data
	}
	if run != "" {
		p.Socket = filepath.Join(run, "api.sock")
	}
	return p, nil
}

func system() Places {
	return Places{
		Config: "/etc/clachan/clachan.toml",
		Data:   "/var/lib/clachan",
		Socket: "/run/clachan/api.sock",
		Mounts: "/srv",
	}
}

func user(env Env) (Places, error) {
	home := env("HOME")
	pick := func(variable, below string) (string, error) {
		if d := env(variable); filepath.IsAbs(d) { // a relative one is invalid, says the XDG specification
			return filepath.Join(d, "clachan"), nil
		}
		if home == "" {
			return "", fmt.Errorf("places: neither HOME nor %s is set", variable)
		}
		return filepath.Join(home, below, "clachan"), nil
	}
	conf, err := pick("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Places{}, err
	}
	data, err := pick("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return Places{}, err
	}
	return Places{
		Config: filepath.Join(conf, "clachan.toml"),
		Data:   data,
		Socket: userSocket(env),
		Mounts: userMounts(env),
	}, nil
}

func userMounts(env Env) string {
	if home := env("HOME"); home != "" {
		return filepath.Join(home, "Clachan")
	}
	return "/srv"
}

func userSocket(env Env) string {
	if run := env("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
		return filepath.Join(run, "clachan", "api.sock")
	}
	return filepath.Join(tmpDir(), "api.sock")
}

// tmpDir holds the socket of a user without a runtime directory.
func tmpDir() string {
	return filepath.Join("/tmp", "clachan-"+strconv.Itoa(os.Getuid()))
}

// Sockets lists where a client looks for its daemon. Only the two standard
// places are alternatives of one another: a client that was told where its
// daemon is must not end up talking to another one.
func Sockets(f Flags, env Env) ([]string, error) {
	switch {
	case f.Socket != "":
		return absolute(f.Socket)
	case f.Home != "":
		return absolute(filepath.Join(f.Home, "api.sock"))
	case env("CLACHAN_SOCKET") != "":
		return absolute(env("CLACHAN_SOCKET"))
	case env("CLACHAN_HOME") != "":
		return absolute(filepath.Join(env("CLACHAN_HOME"), "api.sock"))
	case f.System:
		return absolute(system().Socket)
	}
	return []string{userSocket(env), system().Socket}, nil
}

func absolute(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("places: %w", err)
	}
	return []string{path}, nil
}

// MakeDirs creates the data folder and the folder of the socket, for the owner
// alone, and refuses a socket folder in /tmp that somebody else prepared.
func (p Places) MakeDirs() error {
	for _, dir := range []string{p.Data, filepath.Dir(p.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("places: %w", err)
		}
	}
	if dir := filepath.Dir(p.Socket); dir == tmpDir() {
		return checkPrivate(dir)
	}
	return nil
}

// checkPrivate holds that dir is a real directory of ours that nobody else may
// enter: names under /tmp can be taken by anyone.
func checkPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("places: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("places: %s must be a directory of yours with mode 0700 (set XDG_RUNTIME_DIR or CLACHAN_HOME instead)", dir)
	}
	return nil
}

// override sets *s to v unless v is empty.
func override(s *string, v string) {
	if v != "" {
		*s = v
	}
}

// first is the first of a colon-separated list, as systemd passes directories.
func first(list string) string {
	dir, _, _ := strings.Cut(list, ":")
	return dir
}
