package syncer_test

import (
	"testing"

	. "github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// What a cut does behind the scenes moves no times: programs would take files and directories for changed.
func TestACutMovesNoTimes(t *testing.T) {
	set := func(p *peer, path string, mode uint32) {
		_, err := p.SetAttr(p.ino(path), Set{Mode: &mode})
		p.must(err)
	}
	for name, change := range map[string]func(p *peer){
		"a directory and a file change places": func(p *peer) {
			p.must(p.Rename(RootIno, "dir", RootIno, "file", RenameExchange))
		},
		"a directory and a symlink change places": func(p *peer) {
			_, err := p.Create(RootIno, "sym", New{Kind: model.Symlink, Mode: 0o777, Target: "dir"})
			p.must(err)
			p.must(p.Rename(RootIno, "dir", RootIno, "sym", RenameExchange))
		},
		"a file of another mode takes the place of one": func(p *peer) {
			p.write("/new", "new")
			set(p, "/new", 0o600)
			p.mv("/new", "/file")
		},
		"one with another attribute": func(p *peer) {
			p.write("/new", "new")
			p.must(p.Setxattr(p.ino("/new"), "user.a", []byte("new"), 0))
			p.mv("/new", "/file")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newWorld(t, 1).peers[0]
			p.mkdir("/dir")
			p.write("/file", "text")
			set(p, "/file", 0o640)
			p.must(p.Setxattr(p.ino("/file"), "user.a", []byte("old"), 0))
			p.cutNow()
			change(p)
			look := func() (all [3]Attr) {
				root, err := p.Attr(RootIno)
				p.must(err)
				return [3]Attr{root, p.stat("/dir"), p.stat("/file")}
			}
			before := look()
			p.cutNow()
			if after := look(); after != before {
				t.Errorf("before\n%+v, after\n%+v", before, after)
			}
		})
	}
}
