package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"reflect"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

func TestTheVeilHidesWholeWordsTheLongestFirst(t *testing.T) {
	var v Veil
	v.Hide("/home/ana", "/HOME")
	v.Hide("/home/ana/My Notes", "/DIR")
	v.Hide("My Notes", "folder-1")
	v.Hide("ana", "USER")
	for in, want := range map[string]string{
		"open /home/ana/My Notes/x: no":               "open /DIR/x: no",
		`44 32 0:41 / /home/ana/My\040Notes rw - f s`: "44 32 0:41 / /DIR rw - f s",
		"/home/anabel, banana, ana's":                 "/home/anabel, banana, USER's",
		`folder="My Notes" by ana_1`:                  `folder="folder-1" by USER_1`,
		"anä":                                         "anä",
	} {
		if got := v.Text(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestTheVeilHidesSecretsAndWhereFrom(t *testing.T) {
	peer := "12D3KooWKbERu8KrFXpzhYbvmbtPqgc5ad56hutgGPCPLvQ4Au6q"
	ticket := "clachan1biqb6ysfbx3uuybduh5fgmk52fv2etvdtronh7b2tvaolx7i645kj4q"
	in := "ticket " + ticket + "\nat /ip4/192.168.1.7/tcp/22170/p2p/" + peer + " and [fe80::1]:22170, 8.8.8.8, 192.168.1.7, not 127.0.0.1, ::1 or 12:04:59\n" +
		"clachan-device-key-1\nc2VjcmV0c2VjcmV0\n"
	var v Veil
	got := v.Text(in)
	want := "ticket TICKET\nat /ip4/private-ip-1/tcp/22170/p2p/" + peerName(peer) + " and [private-ip-2]:22170, public-ip-3, private-ip-1, not 127.0.0.1, ::1 or 12:04:59\nKEY\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	open := Veil{Open: true}
	if got := open.Text(in); strings.Contains(got, ticket) || strings.Contains(got, "c2Vj") || !strings.Contains(got, peer) {
		t.Errorf("with names: %s", got)
	}
}

func TestAStatusTellsNoNames(t *testing.T) {
	st := control.Status{Device: "desk", PeerID: "p0", Folders: []control.FolderStatus{{ID: "f1", Name: "Notes", Dir: "/n", Error: "x has \"secret\"",
		Notices: []control.Notice{{Text: "secret: cannot read it"}}}}, Peers: []control.PeerStatus{{ID: "p1", Name: "nas", Folders: []string{"f1"}}}}
	var b Bundle
	veiled := b.Veil.Status(st)
	b.JSON("status.json", "", veiled, nil)
	b.Log("log.txt", "", "x folder=Notes name=nas\ny folder=Gone dir=\"/was here\" peer=p1\n", nil)
	for i, p := range b.Parts {
		for _, word := range []string{"desk", "Notes", "\"/n\"", "secret", "nas", "f1\"", "p1\"", "Gone", "was here"} {
			if strings.Contains(string(b.files[i]), word) {
				t.Errorf("%s tells %s:\n%s", p.Name, word, b.files[i])
			}
		}
	}
	if !strings.Contains(string(b.files[1]), "folder="+veiled.Folders[0].Name+" name="+veiled.Peers[0].Name) {
		t.Errorf("the log is\n%s", b.files[1])
	}
	if st.Folders[0].Name != "Notes" || st.Folders[0].Notices[0].Text == hiddenText {
		t.Error("the status itself has changed")
	}
}

// Whatever a status comes to tell is hidden, unless it is known here to be harmless.
func TestNoFieldOfAStatusIsForgotten(t *testing.T) {
	harmless := []string{ // the path of the field
		".Folders.Mode", ".Folders.Role", ".Folders.Names", ".Folders.State", ".Tasks.Kind", ".Tasks.Unit",
		".Peers.Path", ".Peers.Transport", ".Peers.Error", ".Addrs", // the last two as far as names and addresses in them are known
	}
	for _, open := range []bool{false, true} {
		var st control.Status
		words := fillStrings(reflect.ValueOf(&st).Elem(), "")
		b := Bundle{Veil: Veil{Open: open}}
		b.JSON("status.json", "", b.Veil.Status(st), nil)
		for path, word := range words {
			named := open && !slices.Contains([]string{".Folders.OnlyHerePaths", ".Folders.Error", ".Folders.Notices.Text"}, path)
			if strings.Contains(string(b.files[0]), word) && !named && !slices.Contains(harmless, path) {
				t.Errorf("open %v: %s is told", open, path)
			}
		}
		if len(words) < 20 {
			t.Errorf("%d fields are tried", len(words))
		}
	}
}

// fillStrings puts a word of its own into every string below v, and returns them by path.
func fillStrings(v reflect.Value, path string) map[string]string {
	words := map[string]string{}
	switch v.Kind() {
	case reflect.String:
		words[path] = "word-of" + strings.ReplaceAll(path, ".", "-") + "-"
		v.SetString(words[path])
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		maps.Copy(words, fillStrings(v.Elem(), path))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		maps.Copy(words, fillStrings(v.Index(0), path))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			maps.Copy(words, fillStrings(v.Field(i), path+"."+v.Type().Field(i).Name))
		}
	case reflect.Map, reflect.Interface:
		panic(path + " is of a kind that is not filled")
	}
	return words
}

func TestMountsOfUnknownFoldersAreNumbered(t *testing.T) {
	var b Bundle
	text := "36 25 0:31 / /home/ana/Secret\\040Plans rw,nosuid shared:1 - fuse.clachan clachan:Secret\\040Plans rw\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	if got := b.Veil.Text(b.ours(text)); got != "36 25 0:31 / /DIR-of-mount-1 rw,nosuid shared:1 - fuse.clachan clachan:mount-1 rw\n" {
		t.Errorf("got %q", got)
	}
}

func TestProfilesNameNoDirectories(t *testing.T) {
	var raw bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&raw, 0); err != nil {
		t.Fatal(err)
	}
	var b Bundle
	b.Veil.Hide("testing", "HIDDEN") // a directory of sources
	b.Profile("p.gz", "", raw.Bytes(), nil)
	if b.Parts[0].Lack != "" {
		t.Fatal(b.Parts[0].Lack)
	}
	z, err := gzip.NewReader(bytes.NewReader(b.files[0]))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil || strings.Contains(string(text), "/testing/") || !strings.Contains(string(text), "/HIDDEN/") {
		t.Errorf("%v\n%q", err, text)
	}
}

func TestABundleSaysWhatIsInItAndWhatIsNot(t *testing.T) {
	var b, file = Bundle{}, bytes.Buffer{}
	b.Text("a.txt", "the first", "hello", nil)
	b.Text("b.txt", "the second", "", errors.New("not\nthere"))
	if err := b.Write(&file, time.Now()); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil || h.Mode != 0o600 {
			t.Errorf("%s: mode %o, %v", h.Name, h.Mode, err)
		}
		got[h.Name] = string(body)
	}
	if len(got) != 2 || got[dir+"a.txt"] != "hello" || !strings.Contains(got[dir+"README.txt"], "Missing:\nb.txt            the second: not; there\n") {
		t.Errorf("%q", got)
	}
}
