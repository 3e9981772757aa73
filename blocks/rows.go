package blocks

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The table bytes of the rows this package keeps in meta.
const (
	tabBlocks = 'B'
	tabPacks  = 'K'
	tabSmall  = 'S'
	tabParts  = 'P'
	tabFiles  = 'F'
)

// tableKey returns the first key of a table of folder.
func tableKey(folder uint32, table byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 5+32), folder), table)
}

func blockKey(folder uint32, id ID) []byte { return append(tableKey(folder, tabBlocks), id[:]...) }

func packRowKey(folder uint32, pack uint64) []byte {
	return binary.BigEndian.AppendUint64(tableKey(folder, tabPacks), pack)
}

func smallKey(folder uint32, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(tableKey(folder, tabSmall), seq)
}

// packKey is the key of a block in the blocks instance. No other keys are there.
func packKey(pack uint64, index uint32) []byte {
	b := append(make([]byte, 0, 1+8+4), 'b')
	b = binary.BigEndian.AppendUint64(b, pack)
	return binary.BigEndian.AppendUint32(b, index)
}

func parsePackKey(b []byte) (pack uint64, index uint32, ok bool) {
	if len(b) != 1+8+4 || b[0] != 'b' {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint32(b[9:]), true
}

// Flags of a location.
const (
	flagZstd    = 1 << 0 // the stored bytes are a zstd frame
	flagSmall   = 1 << 1 // they are in the row 'S' pack, not in a pack
	flagDamaged = 1 << 2 // what is stored there was found wrong
	flagUnread  = 1 << 3 // the disk could not read it when it was last asked
	flagsKnown  = flagZstd | flagSmall | flagDamaged | flagUnread
)

// location says where the bytes of a block are.
type location struct {
	flags byte
	pack  uint64 // or the number of the small row
	index uint32
	size  uint32 // of the plain bytes
}

// at tells whether l is the place that other is, whatever readers have found
// there since: that the disk cannot read it comes and goes.
func (l location) at(other location) bool {
	l.flags, other.flags = l.flags&^flagUnread, other.flags&^flagUnread
	return l == other
}

const locationLen = 1 + 8 + 4 + 4

func (l location) append(b []byte) []byte {
	b = append(b, l.flags)
	b = binary.BigEndian.AppendUint64(b, l.pack)
	b = binary.BigEndian.AppendUint32(b, l.index)
	return binary.BigEndian.AppendUint32(b, l.size)
}

func parseLocation(b []byte) (location, error) {
	if len(b) != locationLen || b[0]&^flagsKnown != 0 {
		return location{}, fmt.Errorf("location row %x: %w", b, errRow)
	}
	l := location{
		flags: b[0],
		pack:  binary.BigEndian.Uint64(b[1:]),
		index: binary.BigEndian.Uint32(b[9:]),
		size:  binary.BigEndian.Uint32(b[13:]),
	}
	if l.size > MaxBlock {
		return location{}, fmt.Errorf("location row %x: %w", b, errRow)
	}
	return l, nil
}

// errRow is wrong bytes in meta, where a checksum has already been passed.
var errRow = errors.New("row cannot be read")

// packRow is a row of the pack table. Live is a hint for the sweep.
type packRow struct {
	blocks uint32
	bytes  uint64
	live   uint64
	sealed int64 // Unix seconds
	access int64
}

func (r packRow) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, r.blocks)
	b = binary.BigEndian.AppendUint64(b, r.bytes)
	b = binary.BigEndian.AppendUint64(b, r.live)
	b = binary.BigEndian.AppendUint64(b, uint64(r.sealed))
	return binary.BigEndian.AppendUint64(b, uint64(r.access))
}

func parsePackRow(b []byte) (packRow, error) {
	if len(b) != 4+4*8 {
		return packRow{}, fmt.Errorf("pack row %x: %w", b, errRow)
	}
	return packRow{
		blocks: binary.BigEndian.Uint32(b),
		bytes:  binary.BigEndian.Uint64(b[4:]),
		live:   binary.BigEndian.Uint64(b[12:]),
		sealed: int64(binary.BigEndian.Uint64(b[20:])),
		access: int64(binary.BigEndian.Uint64(b[28:])),
	}, nil
}

// A small row is flags, id, stored bytes.
const smallHead = 1 + 32

func parseSmall(b []byte) (flags byte, id ID, stored []byte, err error) {
	if len(b) < smallHead || b[0]&^flagZstd != 0 {
		return 0, ID{}, nil, fmt.Errorf("small row: %w", errRow)
	}
	copy(id[:], b[1:])
	return b[0], id, b[smallHead:], nil
}

func parseSmallKey(b []byte) (seq uint64, err error) {
	if len(b) != 5+8 {
		return 0, fmt.Errorf("small row key %x: %w", b, errRow)
	}
	return binary.BigEndian.Uint64(b[5:]), nil
}

func parsePackRowKey(b []byte) (pack uint64, err error) {
	if len(b) != 5+8 {
		return 0, fmt.Errorf("pack row key %x: %w", b, errRow)
	}
	return binary.BigEndian.Uint64(b[5:]), nil
}
