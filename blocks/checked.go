package blocks

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkedFS checks what is read of a pack before Pebble does. Of a block with a
// wrong checksum Pebble looks for a bit that makes it right, by trying each: a
// time square in the size of the block, half a minute of a processor for one of
// ours, which nothing can interrupt.
type checkedFS struct{ vfs.FS }

func (fs checkedFS) Unwrap() vfs.FS { return fs.FS }

func (fs checkedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return checkedFile{f}, nil
}

type checkedFile struct{ vfs.File }

// checkedMin is what is quick to try. What is larger is a block and its trailer:
// one byte, and the checksum of all before.
const checkedMin = 8 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (f checkedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err != nil || n < checkedMin {
		return n, err
	}
	sum := crc32.Checksum(p[:n-4], castagnoli)
	if sum = (sum>>15 | sum<<17) + 0xa282ead8; sum != binary.LittleEndian.Uint32(p[n-4:n]) { // as LevelDB masks it
		return 0, fmt.Errorf("%w: checksum of %d bytes at %d", pebble.ErrCorruption, n, off)
	}
	return n, nil
}
