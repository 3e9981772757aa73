package mount

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var (
	// ErrOption says that an option word is not known or cannot be used.
	ErrOption = errors.New("bad mount option")
	// ErrNoFuse says that the system cannot mount.
	ErrNoFuse = errors.New("cannot mount")
)

// Options say how a folder is mounted. The zero value is what a user without privileges gets.
type Options struct {
	Name    string // of the folder: the source of the mount is clachan:NAME
	Staging string // directory for bytes not cut yet, on the disk of the store
	Log     *slog.Logger
	Aside   bool // what is at the mountpoint is put beside it; else that is an error

	ReadOnly           bool
	AllowOther         bool
	DefaultPermissions bool
	NoAtime            bool
	NoExec             bool
	Sync               bool // each write is an fsync too
	Suid               bool
	Dev                bool
	UID, GID           *uint32 // shown as the owner of everything
}

// Defaults returns the options of a mount by this user without any -o.
func Defaults() Options {
	root := os.Geteuid() == 0
	return Options{AllowOther: root, DefaultPermissions: true}
}

// words are the options without a value.
var words = map[string]func(*Options){
	"ro": func(o *Options) { o.ReadOnly = true }, "rw": func(o *Options) { o.ReadOnly = false },
	"allow_other":         func(o *Options) { o.AllowOther = true },
	"default_permissions": func(o *Options) { o.DefaultPermissions = true },
	"noatime":             func(o *Options) { o.NoAtime = true },
	"atime":               func(o *Options) { o.NoAtime = false }, "relatime": func(o *Options) { o.NoAtime = false },
	"noexec": func(o *Options) { o.NoExec = true }, "exec": func(o *Options) { o.NoExec = false },
	"sync": func(o *Options) { o.Sync = true }, "async": func(o *Options) { o.Sync = false },
	"suid": func(o *Options) { o.Suid = true }, "nosuid": func(o *Options) { o.Suid = false },
	"dev": func(o *Options) { o.Dev = true }, "nodev": func(o *Options) { o.Dev = false },
}

// ignored are words of fstab that mean nothing here.
var ignored = []string{"defaults", "auto", "noauto", "user", "nouser", "users", "_netdev", "nofail"}

// Parse changes o as the words of -o say: each may be a list with commas.
func (o *Options) Parse(list ...string) error {
	for _, w := range strings.Split(strings.Join(list, ","), ",") {
		if err := o.word(strings.TrimSpace(w)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) word(w string) error {
	if w == "" || slices.Contains(ignored, w) || strings.HasPrefix(w, "x-") {
		return nil
	}
	if set := words[w]; set != nil {
		set(o)
		return nil
	}
	key, val, _ := strings.Cut(w, "=")
	if key == "uid" || key == "gid" {
		n, err := strconv.ParseUint(val, 10, 32)
		if err != nil || n == math.MaxUint32 {
			return fmt.Errorf("%w: %q: want a number", ErrOption, w)
		}
		id := uint32(n)
		if key == "uid" {
			o.UID = &id
		} else {
			o.GID = &id
		}
		return nil
	}
	return fmt.Errorf("%w: %q is not one of %s", ErrOption, w, known())
}

func known() string {
	all := []string{"uid=N", "gid=N"}
	for w := range words {
		all = append(all, w)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// fuseConf is where an administrator lets users use allow_other.
const fuseConf = "/etc/fuse.conf"

// check says why these options cannot work for this user.
func (o *Options) check() error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("%w: no /dev/fuse: load the kernel module with `modprobe fuse`, or give the container the device", ErrNoFuse)
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("%w: this user may not open /dev/fuse: an administrator can allow it with `chmod 666 /dev/fuse`", ErrNoFuse)
	}
	if o.Suid || o.Dev {
		return fmt.Errorf("%w: suid and dev need root", ErrOption)
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		if _, err := exec.LookPath("fusermount"); err != nil {
			return fmt.Errorf("%w: fusermount3 is not installed: install the package fuse3 (apt install fuse3, dnf install fuse3)", ErrNoFuse)
		}
	}
	if o.AllowOther && !userAllowOther() {
		return fmt.Errorf("%w: others may only be let in where %[2]s has the line user_allow_other: an administrator can add it with `echo user_allow_other >>%[2]s`, or leave out allow_other", ErrOption, fuseConf)
	}
	return nil
}

// Possible says why this user can mount nothing, and what to do.
func Possible() error {
	var o Options
	return o.check()
}

// MayLetOthers tells whether this user may mount with allow_other.
func MayLetOthers() bool { return os.Geteuid() == 0 || userAllowOther() }

// userAllowOther says whether users may let others in. Where they may not even read that, fusermount3 decides.
func userAllowOther() bool {
	b, err := os.ReadFile(fuseConf)
	if err != nil {
		return errors.Is(err, os.ErrPermission)
	}
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// The size of requests, how many the kernel may have waiting in the background, and how far it reads ahead.
const (
	maxWrite      = 1 << 20
	maxBackground = 64
	readAheadKiB  = 1024
)

// fuse translates the options for the kernel and go-fuse.
func (o *Options) fuse(m *Mount) *fuse.MountOptions {
	f := &fuse.MountOptions{
		FsName:                   "clachan:" + strings.ReplaceAll(o.Name, ",", "_"),
		Name:                     "clachan",
		AllowOther:               o.AllowOther,
		MaxWrite:                 maxWrite,
		MaxReadAhead:             maxWrite,
		MaxBackground:            maxBackground,
		EnableAcl:                true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_DONT_MASK | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_HANDLE_KILLPRIV_V2 |
			fuse.CAP_EXPORT_SUPPORT | fuse.CAP_SETXATTR_EXT | fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_ASYNC_DIO | fuse.CAP_HAS_EXPIRE_ONLY,
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_NO_OPEN_SUPPORT,
		PanicHandler:         m.panicked,
		Logger:               slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	if o.DefaultPermissions || o.AllowOther {
		f.Options = append(f.Options, "default_permissions")
	}
	if os.Geteuid() == 0 {
		f.DirectMountStrict = true
		f.DirectMountFlags = o.flags()
		return f
	}
	for word, on := range map[string]bool{"ro": o.ReadOnly, "noatime": o.NoAtime, "noexec": o.NoExec, "sync": o.Sync} {
		if on {
			f.Options = append(f.Options, word)
		}
	}
	slices.Sort(f.Options)
	return f
}

// flags are the bits of mount(2).
func (o *Options) flags() uintptr {
	bits := uintptr(syscall.MS_MGC_VAL) // says that no bit is meant when there is none
	for bit, on := range map[uintptr]bool{
		syscall.MS_NOSUID: !o.Suid, syscall.MS_NODEV: !o.Dev, syscall.MS_NOEXEC: o.NoExec,
		syscall.MS_RDONLY: o.ReadOnly, syscall.MS_NOATIME: o.NoAtime, syscall.MS_SYNCHRONOUS: o.Sync,
	} {
		if on {
			bits |= bit
		}
	}
	return bits
}
