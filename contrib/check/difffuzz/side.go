package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// side is one of the two directories, with what is open in it.
type side struct {
	dir  string
	root int // the directory, open
	fds  [slots]int

	faulty bool // for tests: the one that is wrong
}

// newSide makes the directory.
func newSide(dir string) (*side, error) {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	// The umask of the process, and a group that a setgid parent gave, are not to count.
	if err := errors.Join(os.Chown(dir, 0, 0), os.Chmod(dir, 0o777)); err != nil {
		return nil, err
	}
	root, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	s := &side{dir: dir, root: root}
	for i := range s.fds {
		s.fds[i] = -1
	}
	return s, nil
}

// close lets everything go.
func (s *side) close() error {
	for i, fd := range s.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
		s.fds[i] = -1
	}
	unix.Close(s.root)
	return os.RemoveAll(s.dir)
}

// enter makes the directory the root of this thread, so that no path leads out of it.
func (s *side) enter() error {
	if err := unix.Fchdir(s.root); err != nil {
		return fmt.Errorf("enter %s: %w", s.dir, err)
	}
	return unix.Chroot(".")
}

// at is the descriptor that the paths of a call begin at.
func (s *side) at(c *call) int {
	if c.At == 0 {
		return unix.AT_FDCWD
	}
	return s.fds[c.At-1]
}

// jail is a thread with a root, a umask and a user of its own.
type jail struct {
	work chan func()
	proc int // its /proc/self/fd, which is not to be found from a root
	mem  []byte
}

// memSize is the size of the buffer of reads and writes; it is aligned for O_DIRECT.
const memSize = 1 << 20

// newJail starts the thread. It is for as long as the process lives.
func newJail() (*jail, error) {
	j := &jail{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		debug.SetPanicOnFault(true)
		ready <- j.init()
		for fn := range j.work {
			fn()
		}
	}()
	return j, <-ready
}

func (j *jail) init() (err error) {
	if err = unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w (it takes root)", err)
	}
	if j.proc, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	j.mem, err = unix.Mmap(-1, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	return err
}

// do runs fn on the thread.
func (j *jail) do(fn func()) {
	done := make(chan struct{})
	j.work <- func() {
		defer close(done)
		fn()
	}
	<-done
}

// become switches the effective ids, the groups and the umask of this thread alone.
func become(u user, umask uint32) {
	unix.Umask(int(umask))
	must := func(no syscall.Errno) {
		if no != 0 {
			panic("switch user: " + no.Error())
		}
	}
	var list *uint32
	if len(u.groups) > 0 {
		list = &u.groups[0]
	}
	const keep = ^uintptr(0)
	if u.uid == 0 {
		must(setres(unix.SYS_SETRESUID, keep, 0, keep))
	}
	must(setgroups(len(u.groups), list))
	must(setres(unix.SYS_SETRESGID, keep, uintptr(u.gid), keep))
	if u.uid != 0 {
		must(setres(unix.SYS_SETRESUID, keep, uintptr(u.uid), keep))
	}
}

func setres(nr, r, e, s uintptr) syscall.Errno {
	_, _, no := syscall.RawSyscall(nr, r, e, s)
	return no
}

// run makes a call, as who it says, and says what came of it.
func (j *jail) run(s *side, c *call) (out string) {
	do := ops[c.Op].do
	if do == nil {
		return "no such op"
	}
	if err := s.enter(); err != nil {
		return err.Error()
	}
	become(users[c.Who], c.Umask)
	defer become(users[0], 0)
	defer func() {
		if p := recover(); p != nil {
			if _, fault := p.(interface{ Addr() uintptr }); !fault {
				panic(p)
			}
			out = "SIGBUS"
		}
	}()
	return do(j, s, c)
}

// res is what a call returned: its errno, or a number.
func res[N int | int64 | int16](n N, err error) string {
	if err != nil {
		return errno(err)
	}
	return strconv.FormatInt(int64(n), 10)
}

// ok is what a call returned that returns nothing but an errno.
func ok(err error) string { return res(0, err) }

func errno(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return unix.ErrnoName(no)
	}
	return err.Error()
}

// again makes a call until it is not interrupted.
func again[N int | int64](fn func() (N, error)) (N, error) {
	for {
		if n, err := fn(); err != unix.EINTR {
			return n, err
		}
	}
}
