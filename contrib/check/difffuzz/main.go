package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	var o options
	flag.StringVar(&o.dirs[0], "a", "", "`directory` on the filesystem that is right")
	flag.StringVar(&o.dirs[1], "b", "", "`directory` on the one that is tried")
	flag.Uint64Var(&o.seed, "seed", 1, "first seed")
	flag.IntVar(&o.seeds, "seeds", 1, "how many seeds")
	flag.IntVar(&o.calls, "calls", 4000, "calls of each seed")
	flag.DurationVar(&o.shrink, "shrink", time.Minute, "how long to look for a shorter sequence")
	flag.StringVar(&o.replay, "replay", "", "make the calls in this `file` in place of random ones")
	flag.BoolVar(&o.all, "all", false, "compare everything after each call, and trust no cache")
	flag.BoolVar(&o.verbose, "v", false, "print each call, and what it returned in both")
	list := flag.Bool("exceptions", false, "print the differences that are allowed")
	flag.Parse()
	if *list {
		for _, e := range exceptions {
			fmt.Printf("%s: %s\n", e.name, e.reason)
		}
		return
	}
	if o.dirs[0] == "" || o.dirs[1] == "" || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "usage, as root: difffuzz -a DIR -b DIR [-seed S] [-seeds N] [-calls N]")
		os.Exit(2)
	}
	passed, failed, err := o.run(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "difffuzz:", err)
		os.Exit(2)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

type options struct {
	dirs    [2]string
	seed    uint64
	seeds   int
	calls   int
	shrink  time.Duration
	replay  string
	all     bool
	verbose bool
}

// run plays all seeds, says what it found, and counts seeds.
func (o options) run(w io.Writer) (passed, failed int, err error) {
	j, err := newJail()
	if err != nil {
		return 0, 0, err
	}
	met, calls := map[string]int{}, 0
	for i := range o.seeds {
		h := &history{j: j, dirs: o.dirs, seed: o.seed + uint64(i), always: o.all, verbose: o.verbose}
		begun := time.Now()
		if o.replay != "" {
			var calls []*call
			if calls, err = readCalls(o.replay); err == nil {
				err = h.replay(calls)
			}
		} else {
			err = h.random(o.calls)
		}
		if err != nil {
			return passed, failed, fmt.Errorf("seed %d: %w", h.seed, err)
		}
		calls += len(h.made)
		for name, n := range h.met {
			met[name] += n
		}
		if h.found == nil {
			passed++
			fmt.Fprintf(w, "seed %d: %d calls, %v\n", h.seed, len(h.made), time.Since(begun).Round(time.Millisecond))
			continue
		}
		failed++
		fmt.Fprintf(w, "seed %d: call %d: %v\n%v\n", h.seed, len(h.made), h.found.call, h.found)
		if err := h.explain(w, o.shrink); err != nil {
			return passed, failed, err
		}
	}
	fmt.Fprintf(w, "%d calls, seeds %d to %d; a is %s, b is %s\n", calls, o.seed, o.seed+uint64(o.seeds)-1, fsName(o.dirs[0]), fsName(o.dirs[1]))
	for _, e := range exceptions {
		fmt.Fprintf(w, "allowed %d times: %s\n", met[e.name], e.name)
	}
	return passed, failed, nil
}

// explain prints the shortest sequence of calls that shows the difference.
func (h *history) explain(w io.Writer, limit time.Duration) error {
	s, err := h.shrink(limit)
	if err != nil {
		return err
	}
	if s == h {
		fmt.Fprintln(w, "the same calls again show no such difference: it is a matter of time; the last were:")
		for _, c := range h.made[max(0, len(h.made)-deepEvery):] {
			fmt.Fprintln(w, c)
		}
		return nil
	}
	fmt.Fprintf(w, "%d calls are enough (for -replay):\n", len(s.made))
	for _, c := range s.made {
		fmt.Fprintln(w, c)
	}
	fmt.Fprintln(w, s.found)
	return nil
}

// readCalls reads what explain has printed.
func readCalls(name string) (calls []*call, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c := &call{}
		if err := json.Unmarshal(lines.Bytes(), c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		calls = append(calls, c)
	}
	return calls, lines.Err()
}

// fsName is the kind of a filesystem, for the record.
func fsName(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err.Error()
	}
	kinds := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	if kind := kinds[int64(st.Type)]; kind != "" {
		return kind
	}
	return fmt.Sprintf("of type %#x", st.Type)
}
