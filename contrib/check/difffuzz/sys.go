package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that the library has not, or makes for all threads of the process.

func setgroups(n int, list *uint32) syscall.Errno {
	_, _, no := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(n), uintptr(unsafe.Pointer(list)), 0)
	return no
}

func errOf(no syscall.Errno) error {
	if no != 0 {
		return no
	}
	return nil
}

func fstatfs(fd int) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	_, err := again(func() (int, error) { return 0, unix.Fstatfs(fd, &st) })
	return st, err
}

// access is faccessat2, flags and all, without what a library adds.
func access(at int, path string, mode, flags int) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, no := syscall.Syscall6(unix.SYS_FACCESSAT2, uintptr(at), uintptr(unsafe.Pointer(p)), uintptr(mode), uintptr(flags), 0, 0)
	return errOf(no)
}

// chmodat is fchmodat2.
func chmodat(at int, path string, mode uint32, flags int) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, no := syscall.Syscall6(unix.SYS_FCHMODAT2, uintptr(at), uintptr(unsafe.Pointer(p)), uintptr(mode), uintptr(flags), 0, 0)
	return errOf(no)
}

// utimens is utimensat; without a path it is for at itself.
func utimens(at int, path *string, times [2]ts, flags int) error {
	var p *byte
	if path != nil {
		var err error
		if p, err = unix.BytePtrFromString(*path); err != nil {
			return err
		}
	}
	tv := [2]unix.Timespec{{Sec: times[0].Sec, Nsec: times[0].Nsec}, {Sec: times[1].Sec, Nsec: times[1].Nsec}}
	_, _, no := syscall.Syscall6(unix.SYS_UTIMENSAT, uintptr(at), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&tv)), uintptr(flags), 0, 0)
	return errOf(no)
}

// listed is what getdents64 gives of an entry.
type listed struct {
	name string
	ino  uint64
	kind byte
}

// getdents reads the next entries, as many as there is room for.
func getdents(fd int, buf []byte) ([]listed, error) {
	n, err := again(func() (int, error) { return unix.Getdents(fd, buf) })
	if err != nil {
		return nil, err
	}
	var out []listed
	for b := buf[:n]; len(b) > 0; {
		d := (*unix.Dirent)(unsafe.Pointer(&b[0]))
		name := b[19:d.Reclen]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		out = append(out, listed{string(name), d.Ino, d.Type})
		b = b[d.Reclen:]
	}
	return out, nil
}

// list reads a directory to its end.
func list(fd int, buf []byte) (all []listed, err error) {
	for {
		some, err := getdents(fd, buf)
		if err != nil || len(some) == 0 {
			return all, err
		}
		all = append(all, some...)
	}
}

// ofdLock sets or asks for a lock of the open file description.
func ofdLock(fd, cmd int, typ int16, off, n int64) (int16, error) {
	l := unix.Flock_t{Type: typ, Start: off, Len: n}
	_, err := again(func() (int, error) { return 0, unix.FcntlFlock(uintptr(fd), cmd, &l) })
	return l.Type, err
}
