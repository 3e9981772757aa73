package main

import (
	"bytes"
	"os/exec"
	"testing"
)

// A patch that does not apply any more breaks nothing, and so proves nothing.
func TestPatchesApplyToTheTreeAsItIs(t *testing.T) {
	all, err := read()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d patches, %v", len(all), err)
	}
	for _, m := range all {
		check := exec.Command("git", "apply", "--check", "-p1", "-")
		check.Dir, check.Stdin = "../..", bytes.NewReader(m.diff)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", m.name, err, out)
		}
	}
}
