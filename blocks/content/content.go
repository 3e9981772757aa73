package content

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/clachanfs/clachan/blocks"
)

// The limits of the format.
const (
	MaxInline = 4 << 10  // up to this size the bytes stand in the Content itself
	MaxSingle = 64 << 10 // up to this size there is one block, uncut
	MaxSize   = 1 << 44  // the largest file: 16 TiB
	MaxDepth  = 6        // the most levels of list blocks
	MaxRefs   = 1024     // the most refs of one list block
	MaxList   = 64 << 10 // no list block is longer than this
	Cell      = 64 << 10 // the grid of holes, and the block of the fixed cut
)

// What can go wrong, for callers to tell apart with errors.Is.
var (
	ErrMalformed = errors.New("malformed content")
	ErrTooBig    = errors.New("file too big")
)

// Cut says how a file is cut into blocks. It is chosen once, when the file is
// first cut, and kept: other cuts give other roots for the same bytes.
type Cut uint8

const (
	Chunked Cut = 0 // where the content says so: package chunker
	Fixed   Cut = 1 // every Cell bytes: files written in place at random
)

// String returns the name of the cut.
func (c Cut) String() string {
	switch c {
	case Chunked:
		return "chunked"
	case Fixed:
		return "fixed"
	}
	return fmt.Sprintf("cut(%d)", uint8(c))
}

// Content names the bytes of a file.
type Content struct {
	Size   int64
	Cut    Cut
	Root   blocks.ID // zero if inline, or if the whole file is one hole
	Depth  uint8     // 0: Root is a data block; n: a list block n levels above the data
	Inline []byte    // the bytes, when Size <= MaxInline
}

// Range is a run of bytes of a file.
type Range struct{ Off, Len int64 }

// End returns the offset just after r.
func (r Range) End() int64 { return r.Off + r.Len }

// Stat tells what a cut did.
type Stat struct {
	Alloc     int64 // bytes of the whole content that are not holes
	Read      int64 // bytes read from the source
	NewBlocks int   // blocks put, list blocks included
}

const (
	tagFormat = 0x10 // upper half of the tag: format 1
	tagInline = 7    // in the place of the depth
)

// Encode returns the canonical bytes of c: contents are the same exactly when
// these are. They are never empty.
func (c Content) Encode() string {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+max(len(c.Inline), len(c.Root)))
	inline := c.Size <= MaxInline
	depth := c.Depth
	if inline {
		depth = tagInline
	}
	b = append(b, tagFormat|depth<<1|byte(c.Cut))
	b = binary.AppendUvarint(b, uint64(c.Size))
	if inline {
		b = append(b, c.Inline...)
	} else {
		b = append(b, c.Root[:]...)
	}
	return string(b)
}

// Decode parses what Encode returned. It accepts nothing else: no other
// spelling, no trailing bytes, no size that cannot be.
func Decode(s string) (Content, error) {
	c, err := decode(s)
	if err != nil {
		return Content{}, fmt.Errorf("decode content: %w: %w", ErrMalformed, err)
	}
	return c, nil
}

func decode(s string) (Content, error) {
	if len(s) < 2 || len(s) > 1+binary.MaxVarintLen64+MaxInline {
		return Content{}, errors.New("length")
	}
	if s[0]&0xf0 != tagFormat {
		return Content{}, fmt.Errorf("unknown format %#x", s[0]>>4)
	}
	c := Content{Cut: Cut(s[0] & 1), Depth: s[0] >> 1 & 7}
	size, rest, err := uvarint([]byte(s[1:]))
	if err != nil {
		return Content{}, err
	}
	if size > MaxSize {
		return Content{}, ErrTooBig
	}
	c.Size = int64(size)
	if inline := c.Size <= MaxInline; inline != (c.Depth == tagInline) {
		return Content{}, errors.New("inline or not")
	} else if inline {
		if int64(len(rest)) != c.Size {
			return Content{}, errors.New("inline length")
		}
		c.Depth = 0
		if len(rest) > 0 {
			c.Inline = rest
		}
		return c, nil
	}
	if len(rest) != len(c.Root) {
		return Content{}, errors.New("root length")
	}
	copy(c.Root[:], rest)
	return c, c.check()
}

// check verifies what must hold of a content that is not inline.
func (c Content) check() error {
	switch {
	case c.Depth > MaxDepth:
		return errors.New("too deep")
	case c.Depth == 0 && !c.Root.IsZero() && c.Size > blocks.MaxBlock:
		return errors.New("block too big")
	case c.Depth > 0 && c.Root.IsZero():
		return errors.New("no root")
	case c.Depth > 0 && c.Size <= MaxSingle:
		return errors.New("list of too few bytes")
	case c.Depth > 1 && c.Size < minSize(c.Depth-1):
		return errors.New("too deep for its size")
	}
	return nil
}

// hole reports whether the whole file is one hole.
func (c Content) hole() bool { return c.Size > MaxInline && c.Depth == 0 && c.Root.IsZero() }

// root returns the ref of the root. Its alloc is unknown if it is a list.
func (c Content) root() ref { return ref{id: c.Root, size: c.Size} }

// minSize returns the least number of bytes below a list block that is not the
// last of its level: it has at least minRefs refs, and of data refs at most
// three begin in a cell.
func minSize(level uint8) int64 {
	if level == 0 {
		return 1
	}
	return 8 * Cell << (5 * (level - 1))
}

// uvarint reads a varint in its shortest spelling.
func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || (n > 1 && b[n-1] == 0) {
		return 0, nil, errors.New("varint")
	}
	return v, b[n:], nil
}
