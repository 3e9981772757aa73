package syncer_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/blocks/content"
	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// tree lists all paths with kind, mode and bytes.
func (p *peer) tree() string { return p.list(false) }

// list lists all paths; with all, also what else must be the same everywhere.
func (p *peer) list(all bool) string {
	var lines []string
	var walk func(dir Ino, at string)
	walk = func(dir Ino, at string) {
		p.must(p.List(dir, 0, func(e Entry) bool {
			line := fmt.Sprintf("%s/%s %o", at, e.Name, e.Attr.Mode)
			switch e.Attr.Kind {
			case model.Dir:
				line += " /"
			case model.Symlink:
				to, err := p.Readlink(e.Attr.Ino)
				p.must(err)
				line += " -> " + to
			default:
				b := p.read(e.Attr.Ino)
				if len(b) > 20 {
					b = fmt.Sprintf("%s… %d %08x", b[:8], len(b), crc32.ChecksumIEEE([]byte(b)))
				}
				line += " " + b
			}
			if all && e.Attr.Kind != model.Dir {
				line += fmt.Sprintf(" size %d mtime %d", e.Attr.Size, e.Attr.Mtime)
			}
			if all {
				line += p.xattrs(e.Attr.Ino)
			}
			lines = append(lines, line)
			if e.Attr.Kind == model.Dir {
				walk(e.Attr.Ino, at+"/"+e.Name)
			}
			return true
		}))
	}
	walk(RootIno, "")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (p *peer) xattrs(ino Ino) (out string) {
	names, err := p.Listxattr(ino)
	p.must(err)
	slices.Sort(names)
	for _, n := range names {
		v, err := p.Getxattr(ino, n)
		p.must(err)
		out += fmt.Sprintf(" %s=%s", n, v)
	}
	return out
}

func (p *peer) read(ino Ino) string {
	p.surf.mu.Lock()
	l := p.surf.dirty[ino]
	p.surf.mu.Unlock()
	if l != nil {
		b := make([]byte, l.Size())
		l.ReadAt(b, 0)
		return string(b)
	}
	v, err := p.Content(ino)
	p.must(err)
	b := make([]byte, v.Content.Size)
	if _, err := content.NewReader(p.Blocks(), v.Content).ReadAt(context.Background(), b, 0); err != nil && v.Content.Size > 0 && len(b) == 0 {
		p.must(err)
	}
	return string(b)
}
