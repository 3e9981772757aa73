package daemon

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/blocks/content"
	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

var write = flag.Bool("write", false, "write what is in a fixture where that is missing")

// TestStoresOfReleasesAreOpenedForEver opens the data folders that releases have
// written (see TestWriteFixture in cmd/clachan) and compares all that is in them
// with what was. Neither is ever changed: who changes a format adds a blocks.Step,
// and a fixture.
func TestStoresOfReleasesAreOpenedForEver(t *testing.T) {
	for release, was := range map[string]control.StoreVersion{"0.1": {Format: 1, Meta: 24, Blocks: 24}} {
		t.Run(release, func(t *testing.T) {
			home := t.TempDir()
			places := config.Places{Data: filepath.Join(home, "data"), Socket: filepath.Join(home, "api.sock"), Config: filepath.Join(home, "clachan.toml"), Mounts: home}
			unpack(t, "testdata/"+release+".tar.zst", places.Data)
			if v, err := StoreVersion(places); err != nil || *v != was {
				t.Errorf("versions %+v, %v, want %+v", v, err, was)
			}
			got := openFixture(t, places)
			name := "testdata/" + release + ".txt"
			if _, err := os.Stat(name); *write && os.IsNotExist(err) {
				must(t, os.WriteFile(name, []byte(got), 0o644))
			}
			want, err := os.ReadFile(name)
			must(t, err)
			if got != string(want) {
				t.Errorf("it has\n%s\nwant\n%s", got, want)
			}
			for _, part := range []string{
				"member desk owner", "member phone writer", `holds "first\nsecond\nby desk\n"`, `holds "first\nsecond\nby phone\n"`,
				`holds "first\nsecond\n"`, `holds "first\n"`, `holds "to be removed\n"`, `holds "of the phone\n"`, "staged Dir/", `open true: "small\n"`,
				"plan (conflict, ", `past "gone"`, "seen song", `xattr user.colour "green"`, "-> deep/noise",
			} {
				if !strings.Contains(got, part) {
					t.Errorf("%q is missing in\n%s", part, got)
				}
			}
			if v, err := StoreVersion(places); err != nil || v.Format != blocks.Format {
				t.Errorf("opened, it is of %+v, %v", v, err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack makes what is in an archive, with holes where nothing but zeros is.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	must(t, err)
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		name := filepath.Join(dir, filepath.FromSlash(path.Clean("/"+h.Name)))
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(name, 0o700))
			continue
		}
		data, err := io.ReadAll(r)
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(h.Mode).Perm())
		must(t, err)
		for off := 0; off < len(data); off += 4096 {
			if p := data[off:min(off+4096, len(data))]; !bytes.Equal(p, make([]byte, len(p))) {
				_, err := out.WriteAt(p, int64(off))
				must(t, err)
			}
		}
		must(t, errors.Join(out.Truncate(int64(len(data))), out.Close()))
	}
}

// openFixture opens a data folder without mounting anything, checks every row and
// block, and tells all that it shows.
func openFixture(t *testing.T, places config.Places) string {
	t.Helper()
	d, err := Open(Options{
		Places: places, Log: slog.New(slog.DiscardHandler),
		Config: config.Config{Device: "desk", Listen: []string{"127.0.0.1:0"}},
	})
	must(t, err)
	defer func() { must(t, d.Close()) }()
	known, err := d.records.load()
	must(t, err)
	grants, err := d.node.Grants()
	must(t, err)
	slices.SortFunc(grants, func(a, b peers.Grant) int { return cmp.Compare(a.Name, b.Name) })
	var out strings.Builder
	fmt.Fprintf(&out, "device %s\n", d.node.ID())
	for _, p := range d.node.Peers() {
		fmt.Fprintf(&out, "peer %s %s seen %s at %s\n", p.Name, p.ID, p.LastSeen.UTC().Format(time.RFC3339), p.Addrs)
	}
	for _, g := range grants {
		rec := known[g.ID]
		fmt.Fprintf(&out, "\nfolder %s %s as %s, names %s, number %d, %s, mounted %v, taken %v, options %q\n",
			g.Name, g.ID, g.Role, g.Log.Names(), rec.Num, rec.mode(), rec.Mounted, rec.Taken, rec.Options)
		for _, m := range g.Log.Members() {
			fmt.Fprintf(&out, "member %s %s %s\n", m.Label, m.Role, m.ID)
		}
		fmt.Fprintf(&out, "inviting %v\n", g.Log.Inviting(time.Date(2026, 11, 27, 17, 8, 0, 0, time.UTC)))
		rec.Dir = filepath.Join(places.Mounts, rec.Name) // as the other is not here
		core, err := d.openCore(&folder{grant: g, rec: rec})
		must(t, err)
		rest, err := newResting(core)
		must(t, err)
		core.SetSurface(rest)
		core.Store().SetSource(songs{})
		must(t, core.Check(t.Context(), func(err error) { t.Errorf("check: %v", err) }))
		must(t, core.Store().Check(t.Context(), func(id blocks.ID, err error) { t.Errorf("block %s: %v", id, err) }))
		show(t, &out, core, d.stagingDir(rec))
	}
	return out.String()
}

// show tells of all files of a folder.
func show(t *testing.T, out io.Writer, core *syncer.Folder, stagingDir string) {
	t.Helper()
	at := map[syncer.Ino]string{}
	var walk func(dir syncer.Ino, way string)
	walk = func(dir syncer.Ino, way string) {
		must(t, core.List(dir, 0, func(e syncer.Entry) bool {
			name, a := path.Join(way, e.Name), e.Attr
			at[a.Ino] = name
			fmt.Fprintf(out, "%s kind %d mode %o links %d size %d alloc %d at %d", name, a.Kind, a.Mode, a.Nlink, a.Size, a.Alloc, a.Mtime)
			switch a.Kind {
			case model.File:
				v, err := core.Content(a.Ino)
				must(t, err)
				fmt.Fprintf(out, " dot %v holds %s\n", v.Orig, sum(t, core, v.Content))
			case model.Symlink:
				to, err := core.Readlink(a.Ino)
				must(t, err)
				fmt.Fprintf(out, " -> %s\n", to)
			default:
				fmt.Fprintln(out)
			}
			attrs, err := core.Listxattr(a.Ino)
			must(t, err)
			for _, x := range attrs {
				v, err := core.Getxattr(a.Ino, x)
				must(t, err)
				fmt.Fprintf(out, "  xattr %s %q\n", x, v)
			}
			if a.Kind == model.Dir {
				walk(a.Ino, name)
			}
			return true
		}))
	}
	walk(syncer.RootIno, "")
	must(t, core.Pasts(func(p index.Past) bool {
		fmt.Fprintf(out, "past %q of %v at %d removed %v by %v %v here %v: mode %o at %d", p.Path, p.Orig, p.Time, p.Removed, p.By, p.Who, p.Here, p.Mode, p.Mtime)
		c, err := content.Decode(p.Content)
		must(t, err)
		fmt.Fprintf(out, " holds %s\n", sum(t, core, c))
		return true
	}))
	must(t, core.Sight().In(syncer.RootIno, func(name string, x syncer.Seen) bool {
		fmt.Fprintf(out, "seen %s %+v\n", name, x)
		return true
	}))
	if err := os.Remove(filepath.Join(stagingDir, "boot")); !errors.Is(err, os.ErrNotExist) { // the machine was booted since
		must(t, err)
	}
	stage, err := staging.Open(stagingDir, staging.Options{})
	must(t, err)
	defer func() { must(t, stage.Close()) }()
	var staged []string
	must(t, core.Staged(func(ino syncer.Ino, s syncer.DirtyState) bool {
		v, err := core.Content(ino)
		must(t, err)
		f, err := stage.Recover(uint64(ino), staging.State{
			Gen: s.Gen, Size: cmp.Or(int64(len(s.Data)), s.Size), Alloc: s.Alloc, Mtime: s.Mtime, Ctime: s.Ctime, Zero: s.Zero, Data: s.Data, From: s.From,
		}, staging.Source{Base: dense{content.NewReader(core.Blocks(), v.Content)}, Size: v.Content.Size, Alloc: v.Content.Size})
		must(t, err)
		data := make([]byte, f.Info().Size)
		_, err = f.ReadAt(t.Context(), data, 0)
		if !errors.Is(err, io.EOF) {
			must(t, err)
		}
		staged = append(staged, fmt.Sprintf("staged %s over %v open %v: %s\n", at[ino], s.Base, s.Open, bytesText(data)))
		return true
	}))
	slices.Sort(staged)
	fmt.Fprint(out, strings.Join(staged, ""))
}

// songs are the files of the plain directory of a fixture.
type songs struct{}

func (songs) ReadPart(_ uint64, p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = "song\n"[(off+int64(i))%5]
	}
	return len(p), nil
}

// A dense content is never asked for its holes.
type dense struct{ *content.Reader }

func (dense) Alloc(context.Context) (int64, error) { return 0, errors.ErrUnsupported }

// sum names the bytes of a content, of which all blocks are here.
func sum(t *testing.T, core *syncer.Folder, c content.Content) string {
	t.Helper()
	data := make([]byte, c.Size)
	_, err := content.NewReader(core.Store(), c).ReadAt(context.Background(), data, 0)
	if !errors.Is(err, io.EOF) {
		must(t, err)
	}
	return bytesText(data)
}

// bytesText tells bytes, if they are many by their hash.
func bytesText(data []byte) string {
	if len(data) < 64 {
		return fmt.Sprintf("%q", data)
	}
	h := blake3.Sum256(data)
	return fmt.Sprintf("%d bytes %x", len(data), h[:8])
}
