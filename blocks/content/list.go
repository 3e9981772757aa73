package content

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/blocks"
)

const (
	listFormat = 1
	minRefs    = 32   // fewest refs of a list block that is not the last of its level
	cutMask    = 0xff // of the last byte of an id: a cut after one ref in 256
)

// ref names a run of bytes: a data block, a hole, or what is below a list block.
type ref struct {
	id    blocks.ID
	size  int64
	alloc int64 // bytes that are not holes
}

func (r ref) hole() bool { return r.id.IsZero() }

// cutAfter reports whether a list ends after its n-th ref r. A hole never ends
// one, so that it can grow; as two holes never meet, MaxRefs is kept.
func cutAfter(n int, r ref) bool {
	return !r.hole() && (n >= minRefs && r.id[31]&cutMask == 0 || n >= MaxRefs-1)
}

// appendList appends the bytes of a list block at level: 1 lists data.
func appendList(b []byte, level uint8, refs []ref) []byte {
	b = append(b, listFormat, level)
	b = binary.AppendUvarint(b, uint64(len(refs)))
	for _, r := range refs {
		if level > 1 {
			b = binary.AppendUvarint(b, uint64(r.size))
			b = binary.AppendUvarint(b, uint64(r.alloc))
			b = append(b, r.id[:]...)
			continue
		}
		v := uint64(r.size) << 1
		if r.hole() {
			b = binary.AppendUvarint(b, v|1)
		} else {
			b = append(binary.AppendUvarint(b, v), r.id[:]...)
		}
	}
	return b
}

// list is a decoded list block.
type list struct {
	level uint8
	refs  []ref
	ends  []int64 // offset after each ref, from the start of the list
}

// decodeList parses a list block at level that stands for size bytes.
func decodeList(b []byte, level uint8, size int64) (*list, error) {
	l, err := parseList(b, level, size)
	if err != nil {
		return nil, fmt.Errorf("decode list: %w: %w", ErrMalformed, err)
	}
	return l, nil
}

func parseList(b []byte, level uint8, size int64) (*list, error) {
	if len(b) < 3 || len(b) > MaxList || b[0] != listFormat || b[1] != level {
		return nil, errors.New("not a list of this level")
	}
	count, b, err := uvarint(b[2:])
	if err != nil {
		return nil, err
	}
	// Fewer than three refs begin in a cell: lists that name many tiny blocks
	// would make walks as long as their author likes.
	if count == 0 || count > MaxRefs || level == 1 && int64(count) > 3*(size/Cell+2) {
		return nil, errors.New("number of refs")
	}
	l := &list{level: level, refs: make([]ref, count), ends: make([]int64, count)}
	var off int64
	for i := range l.refs {
		last := i == len(l.refs)-1
		r := &l.refs[i]
		if level == 1 {
			b, err = r.parseLeaf(b)
		} else {
			b, err = r.parseNode(b, level, last)
		}
		if err != nil {
			return nil, err
		}
		if i > 0 && r.hole() && l.refs[i-1].hole() {
			return nil, errors.New("holes side by side")
		}
		if !last && cutAfter(i+1, *r) {
			return nil, errors.New("list goes on after its end")
		}
		if r.size > size-off {
			return nil, errors.New("refs longer than the list")
		}
		off += r.size
		l.ends[i] = off
	}
	if off != size || len(b) > 0 {
		return nil, errors.New("refs do not add up")
	}
	return l, nil
}

func (r *ref) parseLeaf(b []byte) ([]byte, error) {
	v, b, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	if v>>1 == 0 || v>>1 > MaxSize {
		return nil, errors.New("ref size")
	}
	r.size = int64(v >> 1)
	if v&1 == 1 {
		return b, nil
	}
	if r.size > blocks.MaxBlock {
		return nil, errors.New("ref size")
	}
	r.alloc = r.size
	return r.parseID(b)
}

func (r *ref) parseNode(b []byte, level uint8, last bool) ([]byte, error) {
	size, b, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	alloc, b, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	if size == 0 || size > MaxSize || alloc > size || !last && int64(size) < minSize(level-1) {
		return nil, errors.New("ref size")
	}
	r.size, r.alloc = int64(size), int64(alloc)
	return r.parseID(b)
}

func (r *ref) parseID(b []byte) ([]byte, error) {
	if len(b) < len(r.id) {
		return nil, errors.New("short id")
	}
	copy(r.id[:], b)
	if r.id.IsZero() {
		return nil, errors.New("zero id")
	}
	return b[len(r.id):], nil
}

// alloc returns how many bytes below the list are not holes.
func (l *list) alloc() int64 {
	var n int64
	for _, r := range l.refs {
		n += r.alloc
	}
	return n
}

// start returns the offset of the i-th ref from the start of the list.
func (l *list) start(i int) int64 {
	if i == 0 {
		return 0
	}
	return l.ends[i-1]
}
