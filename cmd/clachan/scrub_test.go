package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/rogpeppe/go-internal/testscript"
)

// damage HOME FILE OFFSET turns a bit, in the packs of a home, of a file that does not compress.
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: damage HOME FILE OFFSET")
	}
	file, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	offset, err := strconv.Atoi(args[2])
	ts.Check(err)
	piece := file[offset:][:64]
	packs, err := filepath.Glob(filepath.Join(args[0], "data", "blocks", "*.sst"))
	ts.Check(err)
	for _, name := range packs {
		pack, err := os.ReadFile(name)
		ts.Check(err)
		if at := bytes.Index(pack, piece); at >= 0 {
			f, err := os.OpenFile(name, os.O_WRONLY, 0) // in place: a daemon may have it open
			ts.Check(err)
			_, err = f.WriteAt([]byte{pack[at] ^ 1}, int64(at))
			ts.Check(errors.Join(err, f.Close()))
			return
		}
	}
	ts.Fatalf("%s is in none of %d packs", args[1], len(packs))
}

func TestAScrubShowsNamesOfOthersLegibly(t *testing.T) {
	var b strings.Builder
	writeScrubbed(&b, control.Scrubbed{
		ScrubReport: control.ScrubReport{Folder: "No\x1b[2Jtes", Damaged: 2},
		Lacking:     &control.Lacking{Files: []string{"a\x1b]0;x\a"}, Past: []string{"b\nc"}},
	})
	if got := b.String(); strings.ContainsAny(got, "\x1b\a") || strings.Count(got, "\n") != 3 {
		t.Errorf("%q", got)
	}
}
