package mount_test

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that is sent signals all the time writes and cuts files as on a disk.
func TestSignalsInterruptNoCallOfAFile(t *testing.T) {
	s := newServer(t, 1, "")
	must(t, os.WriteFile(s.path("f"), bytes.Repeat([]byte("committed "), 400<<10), 0o644))
	s.tell("cut")
	s.stop() // and the kernel's pages go
	s.start()
	fd, err := unix.Open(s.path("f"), unix.O_RDWR, 0)
	must(t, err)
	defer unix.Close(fd)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, tid, end := os.Getpid(), unix.Gettid(), make(chan bool)
	defer close(end)
	go func() {
		for {
			select {
			case <-end:
				return
			default:
				unix.Tgkill(pid, tid, unix.SIGURG) // with which Go wakes threads anyway
			}
		}
	}()
	for off := int64(3<<20) + 100; off > 0; off -= 64 << 10 {
		if n, err := unix.Pwrite(fd, []byte("new"), off); n != 3 || err != nil {
			t.Fatalf("write at %d: %d, %v", off, n, err)
		}
		if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off+1000, 50); err != nil {
			t.Fatalf("hole at %d: %v", off, err)
		}
	}
	must(t, unix.Ftruncate(fd, 50_001))
}
