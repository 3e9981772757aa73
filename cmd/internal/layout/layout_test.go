package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module  = "github.com/clachanfs/clachan"
	root    = "../../.." // of the source tree, from here
	maxFile = 600        // lines; beyond it a file is reported
	maxFunc = 70
)

// arrows lists, for each top-level folder, those it may import from.
var arrows = map[string][]string{
	"blocks":  {},
	"syncer":  {"blocks"},
	"fs":      {"syncer", "blocks"},
	"peers":   {"syncer", "blocks"},
	"cmd":     {"blocks", "syncer", "fs", "peers", "contrib"},
	"contrib": {"blocks", "syncer", "fs", "peers", "cmd"},
}

// confined lists, for libraries that must not spread, where they may be used.
// The longest entry counts.
var confined = map[string][]string{
	"github.com/hanwen/go-fuse":            {"fs", "contrib/bench"},
	"github.com/syncthing/notify":          {"fs"},
	"github.com/libp2p":                    {"peers"},
	"github.com/multiformats":              {"peers"},
	"github.com/cockroachdb":               {"blocks", "syncer/index"},
	"github.com/cockroachdb/pebble/v2/vfs": {"blocks", "syncer/index", "cmd/internal/daemon"}, // which opens them
	"github.com/spf13":                     {"cmd"},
	"github.com/BurntSushi/toml":           {"cmd"},
	"github.com/cpuguy83/go-md2man":        {"cmd"},
	"github.com/coreos/go-systemd":         {"cmd/internal/service"},
	"github.com/google/pprof":              {"cmd/internal/support"},
	"github.com/google/renameio":           {"cmd"},
	"github.com/mdp/qrterminal":            {"cmd"},
	"github.com/prometheus":                {"cmd/internal/metrics"},
	"github.com/rogpeppe/go-internal":      {}, // tests only, as the two below
	"pgregory.net/rapid":                   {},
	"github.com/google/go-cmp":             {},
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// breach says why the package in dir may not import what it does, or nothing.
func breach(dir, imported string) string {
	lib := ""
	for l := range confined {
		if within(imported, l) && len(l) > len(lib) {
			lib = l
		}
	}
	if places := confined[lib]; lib != "" && !slices.ContainsFunc(places, func(p string) bool { return within(dir, p) }) {
		return fmt.Sprintf("%s imports %s, which belongs to %v", dir, imported, places)
	}
	if !within(imported, module) {
		return ""
	}
	to, _, _ := strings.Cut(strings.TrimPrefix(imported, module+"/"), "/")
	from, _, _ := strings.Cut(dir, "/")
	if from != to && !slices.Contains(arrows[from], to) {
		return fmt.Sprintf("%s imports %s: no arrow leads from %s to %s", dir, imported, from, to)
	}
	return ""
}

// source is one parsed file.
type source struct {
	dir, name string // slash-separated, from the root
	test      bool
	file      *ast.File
	fset      *token.FileSet
}

// sources parses the whole tree.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		all = append(all, source{dir: path.Dir(rel), name: rel, test: strings.HasSuffix(rel, "_test.go"), file: f, fset: fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found only %d files below %s", len(all), root)
	}
	return all
}

func TestArrowsHold(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imp := range s.file.Imports {
			imported, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why := breach(s.dir, imported); why != "" {
				t.Errorf("%s: %s", s.name, why)
			}
		}
	}
}

func TestBreachesAreSeen(t *testing.T) {
	tests := []struct {
		dir, imported string
		ok            bool
	}{
		{"fs/mount", module + "/syncer", true},
		{"fs/mount", module + "/syncer/model", true},
		{"fs/mount", module + "/fs/staging", true},
		{"fs/mount", module + "/peers/trust", false},
		{"peers", module + "/fs/mount", false},
		{"peers/trust", module + "/blocks", true},
		{"syncer", module + "/peers", false},
		{"syncer/model", module + "/blocks/content", true},
		{"blocks/content", module + "/blocks", true},
		{"blocks", module + "/syncer/model", false},
		{"blocks", module + "/cmd/internal/config", false},
		{"cmd/clachan", module + "/fs/mount", true},
		{"contrib/bench", module + "/fs/mount", true},
		{"contrib/bench", "github.com/hanwen/go-fuse/v2/fuse", true},
		{"contrib/check", "github.com/hanwen/go-fuse/v2/fuse", false},
		{"cmd/internal/daemon", "github.com/hanwen/go-fuse/v2/fuse", false},
		{"syncer", "github.com/cockroachdb/pebble/v2", false},
		{"syncer/index", "github.com/cockroachdb/pebble/v2", true},
		{"syncer/indexer", "github.com/cockroachdb/pebble/v2", false},
		{"cmd/internal/daemon", "github.com/libp2p/go-libp2p", false},
		{"cmd/internal/daemon", "github.com/cockroachdb/pebble/v2", false},
		{"cmd/internal/daemon", "github.com/cockroachdb/pebble/v2/vfs", true},
		{"cmd/clachan", "github.com/cockroachdb/pebble/v2/vfs", false},
		{"peers", "github.com/libp2p/go-libp2p/core/peer", true},
		{"peers", "github.com/spf13/cobra", false},
		{"blocks", "github.com/BurntSushi/toml", false},
		{"blocks", "os", true},
	}
	for _, tt := range tests {
		if why := breach(tt.dir, tt.imported); (why == "") != tt.ok {
			t.Errorf("%s importing %s: %q", tt.dir, tt.imported, why)
		}
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"go.mod", "go.sum", "README.md", "LICENSE"}
	for _, e := range entries {
		name := e.Name()
		_, folder := arrows[name]
		if !strings.HasPrefix(name, ".") && !(e.IsDir() && folder) && !slices.Contains(files, name) {
			t.Errorf("%s does not belong at the top", name)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	type pkg struct{ doc, code, docFile bool }
	pkgs := map[string]*pkg{}
	for _, s := range sources(t) {
		p := pkgs[s.dir]
		if p == nil {
			p = new(pkg)
			pkgs[s.dir] = p
		}
		if s.test {
			continue
		}
		if path.Base(s.name) == "doc.go" {
			p.docFile = true
		} else {
			p.code = true
		}
		if s.file.Doc != nil && len(strings.TrimSpace(s.file.Doc.Text())) > 40 {
			p.doc = true
		}
	}
	for dir, p := range pkgs {
		switch {
		case !p.code && !p.docFile:
			t.Errorf("%s: a package of tests needs a doc.go", dir)
		case !p.doc:
			t.Errorf("%s: no package comment", dir)
		}
	}
}

// TestSizes only reports: a long function is sometimes the clearest one.
func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if lines := s.fset.File(s.file.Pos()).LineCount(); lines > maxFile {
			t.Logf("%s has %d lines", s.name, lines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; lines > maxFunc {
				t.Logf("%s: %s has %d lines", s.name, f.Name.Name, lines)
			}
		}
	}
}
