package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needRoot is for what switches users and roots.
func needRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func TestTwoDirectoriesOfOneFilesystemDoNotDiffer(t *testing.T) {
	needRoot(t)
	var out strings.Builder
	o := options{dirs: [2]string{t.TempDir(), t.TempDir()}, seed: 1, seeds: 2, calls: 400}
	passed, failed, err := o.run(&out)
	if err != nil || passed != 2 || failed != 0 {
		t.Errorf("%d passed, %d failed, %v:\n%s", passed, failed, err, &out)
	}
}

// A fault of one side is found, and told in few calls.
func TestAFaultIsFoundAndShrunk(t *testing.T) {
	needRoot(t)
	was := ops
	defer func() { ops = was }()
	for name, fault := range map[string]op{
		"chmod": {do: func(_ *jail, s *side, c *call) string { // loses the sticky bit
			mode := c.Mode
			if s.faulty {
				mode &^= unix.S_ISVTX
			}
			return ok(chmodat(s.at(c), string(c.Path), mode, c.Flags))
		}},
		"rename": {do: func(_ *jail, s *side, c *call) string { // knows no flags
			flags := c.Flags
			if s.faulty {
				flags = 0
			}
			return ok(unix.Renameat2(s.at(c), string(c.Path), s.at(c), string(c.Path2), uint(flags)))
		}},
		"pwrite": {do: func(j *jail, s *side, c *call) string { // loses bytes
			b := j.pattern(c)
			if s.faulty && len(b) > 0 {
				b[len(b)-1] ^= 1
			}
			return res(again(func() (int, error) { return unix.Pwrite(s.fds[c.S], b, c.Off) }))
		}},
		"utimens": {do: func(_ *jail, s *side, c *call) string { // to the microsecond
			p, times := string(c.Path), c.Times
			if n := &times[1].Nsec; s.faulty && *n < 1e9 {
				*n = *n / 1000 * 1000
			}
			return ok(utimens(s.at(c), &p, times, c.Flags))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ops = merge(was)
			fault.weight, fault.gen = was[name].weight, was[name].gen
			ops[name] = fault
			j, err := newJail()
			if err != nil {
				t.Fatal(err)
			}
			h := &history{j: j, dirs: [2]string{t.TempDir(), t.TempDir()}, seed: 7, faulty: true}
			if err := h.random(3000); err != nil {
				t.Fatal(err)
			}
			if h.found == nil {
				t.Fatal("not found in 3000 calls")
			}
			s, err := h.shrink(1e10)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.made) > 6 || s.found == nil {
				t.Errorf("%d calls are left: %v", len(s.made), s.made)
			}
		})
	}
}

// A call is printed so that it can be read back, whatever its names are.
func TestCallsCanBeReadBack(t *testing.T) {
	g := newGenerator(3)
	g.seen = &snapshot{order: []string{"/"}, nodes: map[string]*node{"/": {Statx_t: unix.Statx_t{Mode: unix.S_IFDIR}}}}
	var lines []string
	for range 2000 {
		lines = append(lines, g.next().String())
	}
	name := t.TempDir() + "/calls"
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	calls, err := readCalls(name)
	if err != nil || len(calls) != len(lines) {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	for i, c := range calls {
		if c.String() != lines[i] {
			t.Fatalf("%s came back as %s", lines[i], c)
		}
	}
}
