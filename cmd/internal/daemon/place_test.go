package daemon

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestACopyOfADirectoryIsInAnotherPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(dir, "meta"), 0o700); err != nil {
		t.Fatal(err)
	}
	was, err := place(dir)
	if err != nil {
		t.Fatal(err)
	}
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", moved, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if now, err := place(moved); err != nil || !bytes.Equal(now, was) {
		t.Errorf("moved from %q to %q, %v", was, now, err)
	}
	if now, err := place(dir); err != nil || bytes.Equal(now, was) {
		t.Errorf("the copy is in the same place %q, %v", now, err)
	}
	// a database that is replaced by a copy, in a directory that stays
	meta := filepath.Join(moved, "meta")
	if out, err := exec.Command("sh", "-c", "cp -a "+meta+" "+meta+"2 && rm -r "+meta+" && mv "+meta+"2 "+meta).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if now, err := place(moved); err != nil || bytes.Equal(now, was) {
		t.Errorf("a replaced database is in the same place %q, %v", now, err)
	}
	// even if it gets the number of the one that is gone
	before, err := place(moved)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(meta), os.Mkdir(meta, 0o700)); err != nil {
		t.Fatal(err)
	}
	if now, err := place(moved); err != nil || bytes.Equal(now, before) {
		t.Errorf("one made anew is in the same place %q, %v", now, err)
	}
	if _, err := place(filepath.Join(dir, "none")); err == nil {
		t.Error("nowhere is a place")
	}
}
