// Mutants breaks the product in known ways, one at a time, and sees each caught.
//
// patches holds one-hunk diffs. Their first lines say what is wrong with them and
// which test must notice. Run from the top of the tree, with the names of some of
// them or for all:
//
//	go run ./contrib/mutants [-limit 5m] [NAME ...]
//
// Each is applied to a copy of the tree as it stands in the index of git. It
// prints how many histories it took, or which test failed, and fails if one
// survives.
package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed patches/*.diff
var patches embed.FS

type mutant struct {
	name, what string
	test       []string
	diff       []byte
}

func main() {
	limit := flag.Duration("limit", 5*time.Minute, "time for each")
	flag.Parse()
	if err := run(*limit, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(limit time.Duration, names []string) error {
	all, err := read()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var alive []string
	for _, m := range all {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		start := time.Now()
		by, err := m.hunt(filepath.Join(dir, m.name), limit)
		if err != nil {
			by = "SURVIVES: " + err.Error()
			alive = append(alive, m.name)
		}
		fmt.Printf("%-22s %5.1fs  %s\n", m.name, time.Since(start).Seconds(), by)
	}
	if len(alive) > 0 {
		return fmt.Errorf("not caught: %s", strings.Join(alive, ", "))
	}
	return nil
}

func read() (out []mutant, err error) {
	files, err := patches.ReadDir("patches")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := patches.ReadFile("patches/" + f.Name())
		if err != nil {
			return nil, err
		}
		lines := strings.SplitN(string(b), "\n", 3)
		if len(lines) < 3 || !strings.HasPrefix(lines[0], "# ") || !strings.HasPrefix(lines[1], "# go test ") {
			return nil, fmt.Errorf("%s: does not say what it is and what must notice", f.Name())
		}
		out = append(out, mutant{strings.TrimSuffix(f.Name(), ".diff"), lines[0][2:], strings.Fields(lines[1][2:]), []byte(lines[2])})
	}
	return out, nil
}

var (
	seedOf = regexp.MustCompile(`seed (\d+):`)
	testOf = regexp.MustCompile(`--- FAIL: (\S+)`)
)

// hunt runs the test on a broken copy of the tree and says what caught it.
func (m mutant) hunt(dir string, limit time.Duration) (string, error) {
	if out, err := exec.Command("git", "checkout-index", "-a", "--prefix="+dir+"/").CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the tree: %s", out)
	}
	defer os.RemoveAll(dir)
	apply := exec.Command("git", "apply", "-p1", "-")
	apply.Dir, apply.Stdin = dir, bytes.NewReader(m.diff)
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("does not apply: %s", bytes.TrimSpace(out))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute) // to build
	defer cancel()
	test := exec.CommandContext(ctx, m.test[0], append(m.test[1:], "-timeout", limit.String())...)
	test.Dir, test.WaitDelay = dir, time.Second
	out, err := test.CombinedOutput()
	var exit *exec.ExitError
	switch failed := testOf.FindSubmatch(out); {
	case err == nil:
		return "", errors.New("all tests pass")
	case !errors.As(err, &exit) || ctx.Err() != nil || bytes.Contains(out, []byte("panic: test timed out")):
		return "", fmt.Errorf("no answer in %v", limit)
	case failed == nil && !bytes.Contains(out, []byte("panic: ")):
		return "", fmt.Errorf("does not build: %.300s", out)
	case failed != nil:
		by := "caught by " + string(failed[1])
		if s := seedOf.FindSubmatch(out); s != nil {
			n, _ := strconv.Atoi(string(s[1])) // first is 1
			by += fmt.Sprintf(", history %d", n)
		}
		return by + ": " + m.what, nil
	}
	return "caught by a panic: " + m.what, nil
}
