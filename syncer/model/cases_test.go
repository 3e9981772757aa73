package model

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"
)

// script plays operations of two users: "a write /doc A", "b mv /doc /d2". Words
// in double quotes may hold spaces. A user's operations are cut before an
// exchange ("sync"), at "a cut", and in the end; "a get" joins without cutting.
// "a clock 24h unsure" puts a clock ahead, of which nothing tells that it is right.
func script(t *testing.T, lines string) (a, b *peer) {
	t.Helper()
	defer func() {
		switch x := recover().(type) {
		case nil:
		case failure:
			t.Fatalf("%s: %s", x.what, x.why)
		default:
			panic(x)
		}
	}()
	a, b = newPeer(0, Bytes, rand.New(rand.NewSource(1))), newPeer(1, Bytes, rand.New(rand.NewSource(2)))
	b.clock = 8 // its edits are the newer ones
	sync := func() {
		a.cut(all)
		b.cut(all)
		for a.pull(b, 1<<30)+b.pull(a, 1<<30) > 0 {
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		f := fieldsOf(line)
		switch {
		case f[0] == "sync":
			sync()
		case f[1] == "clock":
			p := map[string]*peer{"a": a, "b": b}[f[0]]
			ahead, err := time.ParseDuration(f[2])
			if err != nil {
				t.Fatal(err)
			}
			p.clock, p.unsure = p.clock+int64(ahead/time.Second)*8, len(f) > 3
		case f[1] == "cut":
			map[string]*peer{"a": a, "b": b}[f[0]].cut(all)
		case f[1] == "get":
			if f[0] == "a" {
				a.pull(b, 1<<30)
			} else {
				b.pull(a, 1<<30)
			}
		default:
			if err := map[string]*peer{"a": a, "b": b}[f[0]].do(f[1], f[2:]); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	sync()
	if x, y := list(a.m), list(b.m); !x.equal(y) {
		t.Fatalf("trees differ\n%s\n%s", x, y)
	}
	if x, y := a.tree.list(), list(a.m); !x.equal(y) {
		t.Fatalf("tree\n%s\nview\n%s", x, y)
	}
	if n := a.cut(all) + b.cut(all); n > 0 {
		t.Fatalf("an idle cut makes %d changes", n)
	}
	return a, b
}

func fieldsOf(line string) (out []string) {
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

func (p *peer) find(path string) (*inode, string) {
	dir := p.tree.root
	parts := strings.Split(path[1:], "/")
	for _, c := range parts[:len(parts)-1] {
		dir = p.tree.at(dir, c)
	}
	return dir, parts[len(parts)-1]
}

func (p *peer) do(op string, args []string) error {
	d, name := p.find(args[0])
	t, i := p.tree, p.tree.at(d, name)
	switch op {
	case "write":
		return t.write(d, name, args[1], p.mtime())
	case "mkdir":
		return t.mkdir(d, name)
	case "symlink":
		return t.symlink(d, name, args[1], p.mtime())
	case "rm":
		return t.removeAll(d, name)
	}
	if i == nil {
		return errNoent
	}
	switch op {
	case "chmod":
		t.setAttr(i, AttrMode, args[1])
	case "xattr":
		t.setAttr(i, XattrTag+"user.k", args[1])
	case "touch":
		t.touch(i, int64(len(args[1]))*1e9)
	case "mv":
		to, toName := p.find(args[1])
		return t.rename(d, name, to, toName)
	case "swap":
		to, toName := p.find(args[1])
		return t.exchange(d, name, to, toName)
	case "ln":
		to, toName := p.find(args[1])
		return t.link(i, to, toName)
	default:
		return fmt.Errorf("what is %s?", op)
	}
	return nil
}

const annCopy = " (conflict, ann, box, 1970-01-01 00.00.00)"
const bobCopy = " (conflict, bob, box, 1970-01-01 00.00.01)"

// The named cases, most of them once a bug or a question. want lists all names:
// "path:content", "path" for a directory, "path=path" for two names of a file.
var cases = []struct{ name, script, want string }{
	{"edit, edit", "a write /d v\nsync\na write /d A\nb write /d B", "/d" + annCopy + ":A|/d:B"},
	{"edit, edit, extension", "a write /d.odt v\nsync\na write /d.odt A\nb write /d.odt B", "/d" + annCopy + ".odt:A|/d.odt:B"},
	{"edit, delete", "a write /d v\nsync\na write /d A\nb rm /d", "/d:A"},
	{"rename, edit", "a write /d v\nsync\na mv /d /e\nb write /d B", "/e:B"},
	{"rename, rename", "a write /d v\nsync\na mv /d /e\nb mv /d /f", "/f:v"},
	{"rename, delete", "a write /d v\nsync\na mv /d /e\nb rm /d", "/e:v"},
	{"create, create equal", "a write /d v\nb write /d v", "/d:v"},
	{"create, create", "a write /d A\nb write /d B", "/d" + annCopy + ":A|/d:B"},
	{"dirs unite", "a mkdir /x\na write /x/f F\nb mkdir /x\nb write /x/g G", "/x|/x/f:F|/x/g:G"},
	{"cycle", "a mkdir /x\na mkdir /y\na write /x/f F\nsync\na mv /x /y/x\nb mv /y /x/y", "/y|/y/x|/y/x/f:F"},
	{"child, rmdir", "a mkdir /x\nsync\na write /x/f F\nb rm /x", "/x|/x/f:F"},
	{"mv out, rm -r", "a mkdir /t\na mkdir /t/p\na write /t/p/f F\nsync\na mkdir /k\na mv /t/p /k/p\nb rm /t", "/k|/k/p|/k/p/f:F"},
	{"mv out, rm -r, mv on", "a mkdir /t\na mkdir /t/p\na write /t/p/f F\nsync\na mkdir /k\na mv /t/p /k/p\nb rm /t\nsync\na mv /k /l\nsync\nb mv /l/p /q", "/l|/q|/q/f:F"},
	{"atomic save, edit", "a write /d v\nsync\na write /d.tmp A\na mv /d.tmp /d\nb write /d B", "/d" + annCopy + ":A|/d:B"},
	{"atomic save cut halfway", "a write /d v\nsync\na write /d.tmp A\nsync\na mv /d.tmp /d", "/d:A"},
	{"mv p z, mv q z", "a write /p P\na write /q Q\nsync\na mv /p /z\nb mv /q /z", "/z:P|/z" + bobCopy + ":Q"},
	{"mv dir, edit and create inside", "a mkdir /x\na write /x/f v\nsync\na mv /x /y\nb write /x/f F\nb write /x/g G", "/y|/y/f:F|/y/g:G"},
	{"edit, rm and mkdir", "a write /x v\nsync\na write /x A\nb rm /x\nb mkdir /x", "/x|/x" + annCopy + ":A"},
	{"symlink retargeted twice", "a symlink /l v\nsync\na rm /l\na symlink /l A\nb rm /l\nb symlink /l B", "/l" + annCopy + ":A|/l:B"},
	{"unlink each name", "a write /d v\na cut\na ln /d /e\nsync\na rm /d\nb rm /e", "/e:v"},
	{"unlink, edit by the other name", "a write /d v\na ln /d /e\nsync\na rm /d\nb write /e B", "/e:B"},
	{"unlink, edit by that name", "a write /d v\na ln /d /e\nsync\na rm /d\nb write /d B", "/e:B"},
	{"unlink both, edit", "a write /d v\na cut\na ln /d /e\nsync\na rm /d\na rm /e\nb write /d B", "/e:B"},
	{"link, delete", "a write /d v\nsync\na ln /d /e\nb rm /d", "/e:v"},
	{"rename a name, unlink it", "a write /d v\na ln /d /e\nsync\na mv /e /f\nb rm /e", "/d:v|/f:v|/d=/f"},
	{"rename over one of two names", "a write /d v\na ln /d /e\na write /s S\nsync\na mv /s /d\nb write /e B", "/d:S|/e:B"},
	{"rename one of two names over a file", "a write /d v\na ln /d /e\na write /s S\nsync\na mv /e /s", "/d:v|/s:v|/d=/s"},
	{"two names to one place", "a write /d v\na ln /d /e\nsync\na mv /d /z\nb mv /e /z", "/z:v"},
	{"link to one place twice", "a write /d v\nsync\na ln /d /e\nb ln /d /e", "/d:v|/e:v|/d=/e"},
	{"link, path-first rename", "a write /d v\na write /s S\nsync\na mv /s /d\nb ln /s /u", "/d:S|/u:S"},
	{"edit, edit of two names", "a write /d v\na ln /d /e\nsync\na write /d A\nb write /e B", "/d" + annCopy + ":A|/d:B|/e:B|/d=/e"},
	{"chmod, edit", "a write /d v\nsync\na chmod /d 1\nb write /d B", "/d:B"},
	{"chmod, delete", "a write /d v\nsync\na chmod /d 1\nb rm /d", "-"},
	{"touch, delete", "a write /d v\nsync\na touch /d ....\nb rm /d", "/d:v"},
	{"touch, edit", "a write /d v\nsync\na touch /d ....\nb write /d B", "/d:B"},
	{"rm -r of one name, mv of its directory", "a mkdir /t\na mkdir /t/p\na write /t/p/f F\na ln /t/p/f /g\nsync\na mkdir /k\na mv /t/p /k/p\nb rm /t", "/g:F|/k|/k/p|/k/p/f:F|/g=/k/p/f"},

	{"backup save is an edit", "a write /d v\nsync\na mv /d /d~\na write /d A\nb write /d B", "/d" + annCopy + ":A|/d:B|/d~:v"},
	{"backup save over a backup", "a write /d v\na write /d~ u\nsync\na mv /d /d~\na write /d A\nb mv /d /e", "/d~:v|/e:A"},
	{"backup save, rename", "a write /d v\nsync\na mv /d /d~\na write /d A\na rm /d~\nb mv /d /e", "/e:A"},
	{"temporary file", "a write /t v\na rm /t\na cut", "-"},
	{"swap directories", "a mkdir /x\na mkdir /y\na write /x/f F\na write /y/g G\nsync\na swap /x /y\nb write /x/h H", "/x|/x/g:G|/y|/y/f:F|/y/h:H"},
	{"swap file and directory", "a mkdir /x\na write /y Y\na write /x/f F\nsync\na swap /x /y", "/x:Y|/y|/y/f:F"},
	{"rotate files", "a write /x X\na write /y Y\na write /z Z\nsync\na mv /x /t\na mv /z /x\na mv /y /z\na mv /t /y\nb write /x B", "/x:Z|/y:B|/z:Y"},
	{"move into a new directory", "a mkdir /x\na write /x/f F\nsync\na mkdir /n\na mkdir /n/m\na mv /x /n/m/x\nb write /x/g G", "/n|/n/m|/n/m/x|/n/m/x/f:F|/n/m/x/g:G"},
	{"swap parent and child", "a mkdir /x\na mkdir /x/y\na write /x/y/f F\nsync\na mv /x/y /y\na mv /x /y/x\nb write /x/g G", "/y|/y/f:F|/y/x|/y/x/g:G"},
	{"dir removed and made again", "a mkdir /x\na write /x/f F\nsync\na rm /x\na mkdir /x\na write /x/g G\nb write /x/h H", "/x|/x/g:G|/x/h:H"},
	{"dir that lives by what is in it, emptied, removed and made again", "a mkdir /x\na mkdir /x/y\na write /x/y/f v\nsync\na rm /x\nb write /x/y/f B\nsync\na mv /x/y/f /f\na mv /x/y /y\na rm /x\na mkdir /x", "/f:B|/x|/y"},
	{"file removed and made again", "a write /x X\nsync\na rm /x\na cut\na write /x Y\nb touch /x ......", "/x:Y"},

	{"edit, unseen edit", "a write /d v\nsync\nb write /d B\nb cut\na write /d A\na get", "/d" + bobCopy + ":B|/d:A"},
	{"edit, unseen delete", "a write /d v\nsync\nb rm /d\nb cut\na write /d A\na get", "/d:A"},
	{"edit, unseen rm -r", "a mkdir /x\na mkdir /x/y\na write /x/y/d v\nsync\nb rm /x\nb cut\na write /x/y/d A\na get", "/x|/x/y|/x/y/d:A"},
	{"edit, unseen rename", "a write /d v\nsync\nb mv /d /e\nb cut\na write /d A\na get", "/e:A"},
	{"save, unseen edit", "a write /d v\nsync\nb write /d B\nb cut\na write /t A\na mv /t /d\na get", "/d" + bobCopy + ":B|/d:A"},
	{"delete, unseen edit", "a write /d v\nsync\nb write /d B\nb cut\na rm /d\na get", "/d:B"},
	{"create, unseen create", "b write /d B\nb cut\na write /d A\na get", "/d" + bobCopy + ":B|/d:A"},
	{"create, unseen create equal", "b write /d v\nb cut\na write /d v\na get", "/d:v"},
	{"mkdir, unseen mkdir", "b mkdir /x\nb write /x/g G\nb cut\na mkdir /x\na write /x/f F\na get", "/x|/x/f:F|/x/g:G"},
	{"create in a directory removed unseen", "a mkdir /x\nsync\nb rm /x\nb cut\na write /x/f F\na get", "/x|/x/f:F"},
	{"rmdir, unseen create", "a mkdir /x\nsync\nb write /x/f F\nb cut\na rm /x\na get", "/x|/x/f:F"},
	{"mv, unseen mv into it", "a mkdir /x\na mkdir /y\nsync\nb mv /y /x/y\nb cut\na mv /x /y/x\na get", "/x|/x/y"},
	{"unlink each name, unseen", "a write /d v\na cut\na ln /d /e\nsync\nb rm /e\nb cut\na rm /d\na get", "/e:v"},
	{"link, unseen delete", "a write /d v\nsync\nb rm /d\nb cut\na ln /d /e\na get", "/e:v"},
	{"move, unseen delete", "a write /d v\nsync\nb rm /d\nb cut\na mv /d /e\na get", "/e:v"},
	{"create, unseen move of a file of one's own there", "a write /p v\nsync\nb mv /p /d\nb cut\na write /d A\na get", "/d" + annCopy + ":v|/d:A"},
	{"rename over one of two names, unseen the same", "a write /c v\na ln /c /x\na write /n N\nsync\nb mv /n /x\nb cut\na mv /n /x\na get", "/c:v|/x:N"},
	{"save at a path vacated unseen, edit where it went", "a write /d v\nsync\nb mv /d /e\nb cut\na rm /d\na write /d A\na get\na write /e E", "/d:A|/e:E"},
	{"save over a name of a file moved unseen, which shows at both", "a write /d v\nsync\nb mv /d /e\nb cut\na mv /d /d\na get\na write /t A\na mv /t /d", "/d:A|/e:v"},
	{"save over a file moved unseen, cut where it went", "a write /d v\nsync\nb mv /d /e\nb cut\na write /d w\na get\na write /t A\na mv /t /d", "/d:A|/e:w"},
	{"edit of the winner, of which an unseen edit makes the loser of one's own", "a write /d v\nb write /d w\nb cut\na touch /d ............\na cut\nb get\nb write /d x\na write /d y\na cut\nb get", "/d:x|/d (conflict, bob, box, 1970-01-01 00.00.01):w|/d (conflict, ann, box, 1970-01-01 00.00.00):y"},
	{"rm of a moved file that has become another's, unseen rm of that", "b write /d w\nb cut\na write /d v\na cut\na mv /d /e\na get\nb rm /d\nb cut\na write /e x\na get\na rm /e", "/d:v"},
	{"rm of a moved file that has become another's", "b write /d w\nb cut\na write /d v\na cut\na mv /d /e\na get\na rm /e", "/d" + annCopy + ":v"},
	{"rm of a file that comes back elsewhere, unseen edit of it there, and mv back", "a mkdir /x\na write /x/d v\nsync\nb mv /x/d /e\nb cut\na rm /x/d\na get\nb write /e w\nb cut\na get\nb mv /e /x/d\nb cut\na get", "/x|/x/d:w"},
	{"save, unseen rename", "a write /d v\nsync\nb mv /d /e\nb cut\na write /t A\na mv /t /d\na get", "/d:A|/e:v"},
	{"rm of a file displaced unseen", "a write /d v\nsync\na write /d A\na cut\nb rm /d\nb mkdir /d\nb cut\na rm /d\na get", "/d"},
	{"touch by one name, rm of the other, unseen rm of the first", "a write /d v\na ln /d /e\nsync\nb rm /d\nb cut\na touch /d ....\na rm /e\na get", "/d:v"},
	{"mv of a name, unseen mv of that name", "a write /d v\na ln /d /e\nsync\nb mv /e /f\nb cut\na mv /e /x\na get", "/d:v|/f:v|/x:v|/d=/f|/d=/x"},
	{"mv, unseen mv", "a write /d v\nsync\nb mv /d /f\nb cut\na mv /d /x\na get", "/x:v"},
	{"name taken by an unseen directory", "b mkdir /d\nb cut\na write /d A\na get\na rm /d", "/d"},

	{"rm a conflict copy", "a write /d A\nb write /d B\nsync\na rm \"/d" + annCopy + "\"", "/d:B"},
	{"rm the winner", "a write /d A\nb write /d B\nsync\na rm /d", "/d" + annCopy + ":A"},
	{"resolve by rename", "a write /d A\nb write /d B\nsync\na mv \"/d" + annCopy + "\" /d", "/d:A"},
	{"edit a conflict copy", "a write /d A\nb write /d B\nsync\na write \"/d" + annCopy + "\" C", "/d:B|/d" + annCopy + ":C"},
	{"edit by a clock years ahead, edit", "a write /d v\nsync\na clock 87600h unsure\na write /d A\nb write /d B", "/d (conflict, ann, box, 1979-12-30 00.00.00):A|/d:B"},
	{"edit by a clock years ahead, two edits", "a write /d v\nsync\na clock 87600h unsure\na write /d A\nb write /d B\nb cut\nb write /d C", "/d (conflict, ann, box, 1979-12-30 00.00.00):A|/d:C"},
	{"edit by a clock years ahead that seems right, edit", "a write /d v\nsync\na clock 87600h\na write /d A\nb write /d B", "/d:A|/d" + bobCopy + ":B"},
	{"edit by a clock that may be ahead by a day, edit", "a write /d v\nsync\na clock 24h unsure\na write /d A\nb write /d B", "/d:A|/d" + bobCopy + ":B"},
	{"edit by a clock that may be ahead by more, edit", "a write /d v\nsync\na clock 86402s unsure\na write /d A\nb write /d B", "/d (conflict, ann, box, 1970-01-02 00.00.02):A|/d:B"},
	{"edits by two clocks that may be ahead", "a write /d v\nsync\na clock 87600h unsure\nb clock 72h unsure\na write /d A\nb write /d B", "/d:A|/d (conflict, bob, box, 1970-01-04 00.00.01):B"},
	{"mv of what a clock years ahead wrote, edit", "b clock 87600h unsure\nb write /d v\nsync\nb clock -87600h\nb mv /d /e\na clock 8s\na write /d A", "/e:A"},
	{"copy by a clock years ahead made a file", "a write /d v\nsync\na clock 87600h unsure\na write /d A\nb write /d B\nsync\nb write \"/d (conflict, ann, box, 1979-12-30 00.00.00)\" C", "/d:B|/d (conflict, ann, box, 1979-12-30 00.00.00):C"},

	{"ln of a conflict copy", "a write /d A\nb write /d B\nsync\na ln \"/d" + annCopy + "\" /e", "/d:B|/d" + annCopy + ":A|/e:A|/e=/d" + annCopy},
}

// A name made again is a new file: nothing of the old one comes with it.
func TestMadeAgainIsNew(t *testing.T) {
	for _, cut := range []string{"", "a cut\n"} {
		a, _ := script(t, "a write /d v\na xattr /d =old\na ln /d /e\nsync\na rm /d\na rm /e\n"+cut+"a write /d w")
		want := listing{{path: "/d", content: "w", attrs: AttrMode + "\x01\xa4", same: "/d"}}
		if got := list(a.m); !got.equal(want) {
			t.Errorf("have\n%s", got)
		}
	}
}

// A directory that is removed and made again in one cut is a new one too, though
// a file that was in it has only moved.
func TestDirMadeAgainIsNew(t *testing.T) {
	a, _ := script(t, "a mkdir /x\na mkdir /x/y\na xattr /x/y =old\na write /x/y/f v\nsync\n"+
		"a mv /x/y/f /f\na rm /x\na mkdir /x\na mkdir /x/y")
	if got := a.list().at("/x/y"); got.attrs != AttrMode+"\x01\xed" {
		t.Errorf("have\n%s", a.list())
	}
}

// A program that has a file open across a cut goes on from what it opened. What
// the cut made of it meanwhile is no news to it.
func TestWritingOnAcrossACut(t *testing.T) {
	a, _ := script(t, "a write /d v")
	i := a.tree.at(a.tree.root, "d")
	for range 3 {
		a.tree.edit(i, "more", 7e9)
		i.base = Dot{} // as it was created
		a.cut(all)
		a.tree.edit(i, "still more", 8e9)
		a.cut(all)
	}
	if got := list(a.m); len(got) != 1 {
		t.Errorf("conflicts\n%s", got)
	}
}

func TestCases(t *testing.T) {
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := script(t, tt.script)
			got := list(a.m)
			group := func(path string) string { return got.at(path).same }
			n := 0
			for _, w := range strings.Split(tt.want, "|") {
				x, content, isFile := strings.Cut(w, ":")
				l, r, same := strings.Cut(w, "=")
				switch {
				case w == "-":
					continue
				case same:
					if group(l) != group(r) || group(l) == "" {
						t.Errorf("%s and %s are not one file", l, r)
					}
					continue
				case got.at(x).path == "" || got.at(x).content != content || isFile == (got.at(x).kind == Dir):
					t.Errorf("want %s", w)
				}
				n++
			}
			if n != len(got) || t.Failed() {
				t.Errorf("want %d names, have\n%s", n, got)
			}
		})
	}
}
