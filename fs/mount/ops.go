package mount

import (
	"sync/atomic"
	"time"
)

// opKind is what the kernel asks for.
type opKind int

const (
	opLookup opKind = iota
	opForget
	opGetAttr
	opSetAttr
	opMknod
	opMkdir
	opSymlink
	opLink
	opUnlink
	opRmdir
	opRename
	opReadlink
	opCreate
	opOpen
	opRead
	opWrite
	opFlush
	opFsync
	opRelease
	opReadDir
	opXattr
	opCopy
	opOther
	opKinds
)

var opNames = [opKinds]string{
	"lookup", "forget", "getattr", "setattr", "mknod", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "readlink",
	"create", "open", "read", "write", "flush", "fsync", "release", "readdir", "xattr", "copy", "other",
}

// One operation in timedEvery has its time taken: to look at the clock twice costs more than to count.
const timedEvery = 16

// OpBuckets are the upper bounds of the times that are told apart.
var OpBuckets = [...]time.Duration{
	16 * time.Microsecond, 64 * time.Microsecond, 256 * time.Microsecond, time.Millisecond, 4 * time.Millisecond,
	16 * time.Millisecond, 64 * time.Millisecond, 256 * time.Millisecond, time.Second, 4 * time.Second,
}

// An Op tells of one kind of operation since the folder was mounted.
type Op struct {
	Name    string
	Count   uint64
	Timed   uint64                 // of these, about one in sixteen
	Took    time.Duration          // by the timed, together
	Buckets [len(OpBuckets)]uint64 // of the timed: so many took no longer than this bound, and longer than the one before
}

// ops counts operations. It is for many at once.
type ops [opKinds]struct {
	count, timed, took atomic.Uint64
	buckets            [len(OpBuckets)]atomic.Uint64
	_                  [64]byte // kinds do not share a line of the cache
}

// begin counts one, and says when it began if its time is taken.
func (o *ops) begin(k opKind) time.Time {
	if o[k].count.Add(1)%timedEvery != 1 { // the first is: rare kinds are told of too
		return time.Time{}
	}
	return time.Now()
}

func (o *ops) end(k opKind, began time.Time) {
	if !began.IsZero() {
		o.add(k, time.Since(began))
	}
}

func (o *ops) add(k opKind, took time.Duration) {
	o[k].timed.Add(1)
	o[k].took.Add(uint64(took))
	for i, bound := range OpBuckets {
		if took <= bound {
			o[k].buckets[i].Add(1)
			return
		}
	}
}

// Ops tells of the kinds that were asked for.
func (m *Mount) Ops() (out []Op) {
	for k := range m.ops {
		c := &m.ops[k]
		op := Op{Name: opNames[k], Timed: c.timed.Load(), Took: time.Duration(c.took.Load())}
		for i := range c.buckets {
			op.Buckets[i] = c.buckets[i].Load()
		}
		if op.Count = c.count.Load(); op.Count > 0 {
			out = append(out, op)
		}
	}
	return out
}
