package control

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// connectOnThread changes the user of one thread only, and leaves the thread
// locked so that the runtime ends it with its goroutine.
func connectOnThread(uid int, path string) (int, error) {
	runtime.LockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
		return 0, errno
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
