package mount

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
)

const (
	procsMax = 1024
	procsFor = 10 * time.Second // a thread's number may be given out again
)

// procs says to which process a thread belongs: the kernel tells the thread.
type procs struct {
	mu sync.Mutex // guards m
	m  map[uint32]proc
}

type proc struct {
	is syncer.Proc
	at time.Time
}

// of returns the process of a caller, 0 if it is not to be found: it may live in another namespace.
func (p *procs) of(tid uint32) syncer.Proc {
	if tid == 0 {
		return 0
	}
	now := time.Now()
	p.mu.Lock()
	x, ok := p.m[tid]
	p.mu.Unlock()
	if ok && now.Sub(x.at) < procsFor {
		return x.is
	}
	is := procOf(tid)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil || len(p.m) >= procsMax {
		p.m = map[uint32]proc{}
	}
	p.m[tid] = proc{is, now}
	return is
}

// procOf reads what the kernel says of a thread: its process, and when that began, since numbers come again.
func procOf(tid uint32) syncer.Proc {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("\nTgid:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	tgid, err := strconv.ParseUint(string(line), 10, 32)
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tgid))
	if err != nil {
		return 0
	}
	i := bytes.LastIndexByte(stat, ')') // the name before may hold anything
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 20 {
		return 0
	}
	began, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0
	}
	return syncer.Proc(tgid<<32 | began&0xffffffff)
}

// inGroup says whether a caller is in a group: the kernel tells only the one that new files get. Who is not to be found
// is not.
func inGroup(by fuse.Caller, gid uint32) bool {
	if by.Gid == gid {
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", by.Pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(status, []byte("\nGroups:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	for _, g := range bytes.Fields(line) {
		if n, err := strconv.ParseUint(string(g), 10, 32); err == nil && uint32(n) == gid {
			return true
		}
	}
	return false
}
