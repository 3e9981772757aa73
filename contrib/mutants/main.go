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
	"strings"
	"time"
)

//go:embed patches/*.diff
var patches embed.FS

type mutant struct {
	name, what string
	tests      []string
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
	if len(names) > 0 {
		all = slices.DeleteFunc(all, func(m mutant) bool { return !slices.Contains(names, m.name) })
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	clean := map[string]error{} // what each test says of the tree as it is
	for _, m := range all {
		for _, test := range m.tests {
			if _, ok := clean[test]; !ok {
				clean[test] = passes(filepath.Join(dir, "clean"), test, limit)
			}
		}
	}
	var alive []string
	for _, m := range all {
		for _, test := range m.tests {
			start := time.Now()
			by, err := "", clean[test]
			if err == nil {
				by, err = m.hunt(filepath.Join(dir, m.name), test, limit)
			}
			if err != nil {
				by = "SURVIVES: " + err.Error()
				alive = append(alive, m.name)
			}
			fmt.Printf("%-22s %5.1fs  %s\n", m.name, time.Since(start).Seconds(), by)
		}
	}
	if len(alive) > 0 {
		return fmt.Errorf("not caught: %s", strings.Join(slices.Compact(alive), ", "))
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
		what, rest, _ := strings.Cut(string(b), "\n")
		m := mutant{name: strings.TrimSuffix(f.Name(), ".diff"), what: strings.TrimPrefix(what, "# ")}
		for strings.HasPrefix(rest, "# go test ") {
			var test string
			test, rest, _ = strings.Cut(rest[2:], "\n")
			m.tests = append(m.tests, test)
		}
		if m.what == what || len(m.tests) == 0 {
			return nil, fmt.Errorf("%s: does not say what it is and what must notice", f.Name())
		}
		m.diff = []byte(rest)
		out = append(out, m)
	}
	return out, nil
}

var (
	seedOf = regexp.MustCompile(`(?:seed |/seed_)(\d+)[: ]`)
	testOf = regexp.MustCompile(`--- FAIL: (\S+)`)
)

// hunt runs a test on a broken copy of the tree and says what caught it.
func (m mutant) hunt(dir, test string, limit time.Duration) (string, error) {
	by, err := try(dir, m.diff, test, limit)
	if err == nil && by == "" {
		err = errors.New("all tests pass")
	}
	return "caught by " + by + ": " + m.what, err
}

// passes tells why a test proves nothing. It has more time, since it must do all
// of it.
func passes(dir, test string, limit time.Duration) error {
	start := time.Now()
	by, err := try(dir, nil, test, 4*limit)
	if by != "" {
		err = fmt.Errorf("the clean tree fails %s", by)
	}
	fmt.Printf("%-22s %5.1fs  %s\n", "clean", time.Since(start).Seconds(), test)
	return err
}

// try runs a test on a copy of the tree with a patch and says what fails; "": it
// passes.
func try(dir string, diff []byte, test string, limit time.Duration) (string, error) {
	if out, err := exec.Command("git", "checkout-index", "-a", "--prefix="+dir+"/").CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the tree: %s", out)
	}
	defer os.RemoveAll(dir)
	if len(diff) > 0 {
		apply := exec.Command("git", "apply", "-p1", "-")
		apply.Dir, apply.Stdin = dir, bytes.NewReader(diff)
		if out, err := apply.CombinedOutput(); err != nil {
			return "", fmt.Errorf("does not apply: %s", bytes.TrimSpace(out))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute) // to build
	defer cancel()
	args := strings.Fields(test)
	run := exec.CommandContext(ctx, args[0], append(args[1:], "-timeout", limit.String())...)
	run.Dir, run.WaitDelay = dir, time.Second
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	switch failed := testOf.FindSubmatch(out); {
	case err == nil && bytes.Contains(out, []byte("[no tests to run]")):
		return "", fmt.Errorf("no such test: %s", test)
	case err == nil:
		return "", nil
	case !errors.As(err, &exit) || ctx.Err() != nil || bytes.Contains(out, []byte("panic: test timed out")):
		return "", fmt.Errorf("no answer in %v", limit)
	case failed == nil && !bytes.Contains(out, []byte("panic: ")):
		return "", fmt.Errorf("does not build: %.300s", out)
	case failed != nil:
		by := string(failed[1])
		if s := seedOf.FindSubmatch(out); s != nil {
			by += ", seed " + string(s[1])
		}
		return by, nil
	}
	return "a panic", nil
}
