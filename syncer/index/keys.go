package index

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"github.com/clachanfs/clachan/syncer/model"
)

// An Ino is an inode number.
type Ino uint64

// RootIno is the root directory.
const RootIno Ino = 1

const (
	tableNode   = 'n'
	tableID     = 'i'
	tableEntry  = 'd'
	tableCrowd  = 'g'
	tableUndone = 'u'
	tableName   = 'y'
	tableBytes  = 'w'
	tableXattr  = 'x'
	tableOrphan = 'o'
	tableRep    = 'r'
	tableBatch  = 'b'
	tableBody   = 'c'
	tableMeta   = 'm'
	tableMark   = 'k'
	tableDevice = 'v'
	tablePast   = 'h'
	tableExpiry = 'H'
	tableTomb   = 't'
	tablePeer   = 'p'
	tableSeen   = 's'
)

// keys makes the keys of one folder.
type keys struct {
	folder uint32
	hash   [16]byte // keys the hashes of names
}

func (k *keys) table(t byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 48), k.folder)
	return append(b, t)
}

func (k *keys) node(ino Ino) []byte {
	return binary.BigEndian.AppendUint64(k.table(tableNode), uint64(ino))
}
func (k *keys) id(id model.ID) []byte     { return append(k.table(tableID), id[:]...) }
func (k *keys) undone(id model.ID) []byte { return append(k.table(tableUndone), id[:]...) }
func (k *keys) bytes(ino Ino) []byte {
	return binary.BigEndian.AppendUint64(k.table(tableBytes), uint64(ino))
}
func (k *keys) orphan(ino Ino) []byte {
	return binary.BigEndian.AppendUint64(k.table(tableOrphan), uint64(ino))
}
func (k *keys) meta(name string) []byte { return append(k.table(tableMeta), name...) }

func (k *keys) xattr(ino Ino, name string) []byte {
	return append(binary.BigEndian.AppendUint64(k.table(tableXattr), uint64(ino)), name...)
}

// entry is the key of a name in a directory, in the tree or in drift.
func (k *keys) entry(t byte, dir Ino, name string) []byte {
	b := binary.BigEndian.AppendUint64(k.table(t), uint64(dir))
	return append(binary.BigEndian.AppendUint64(b, k.cookie(name)), name...)
}

func (k *keys) dir(t byte, dir Ino) []byte {
	return binary.BigEndian.AppendUint64(k.table(t), uint64(dir))
}

func (k *keys) crowd(dir Ino, fold string) []byte {
	return append(k.dir(tableCrowd, dir), fold...)
}

// cookie is where a name stands in its directory: never below 3, which are the
// places of "." and "..". It is keyed, so that nobody can make names collide.
func (k *keys) cookie(name string) uint64 {
	return max(siphash.Hash(binary.LittleEndian.Uint64(k.hash[:]), binary.LittleEndian.Uint64(k.hash[8:]), []byte(name))>>1, 3)
}

func (k *keys) log(t byte, ridx uint32, hi uint64) []byte {
	b := binary.BigEndian.AppendUint32(k.table(t), ridx)
	return binary.BigEndian.AppendUint64(b, hi)
}

func (k *keys) replicaOf(t byte, ridx uint32) []byte {
	return binary.BigEndian.AppendUint32(k.table(t), ridx)
}

func (k *keys) replica(ridx uint32) []byte {
	return binary.BigEndian.AppendUint32(k.table(tableRep), ridx)
}

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}
