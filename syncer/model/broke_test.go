package model

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Histories that once broke, those that collect and plain ones, are kept step by
// step: drawn from their seeds they would be others as soon as there is another
// operation to draw. The first line is the seed of the world and what broke.
func TestHistoriesThatBroke(t *testing.T) {
	files, err := filepath.Glob("testdata/broke/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			seed, why, ss := readSteps(t, f)
			run := newWorld(seed).run
			if strings.HasPrefix(filepath.Base(f), "collecting-") {
				run = newCollecting(seed).run
			}
			if bad := run(ss); bad != nil {
				t.Errorf("%s: %s: %s", why, bad.what, bad.why)
			}
		})
	}
}

func printSteps(seed int64, why string, ss []step) {
	fmt.Println(seed, why)
	for _, s := range ss {
		fmt.Printf("%q %d %d", s.op, s.p, s.q)
		for _, x := range s.x {
			fmt.Printf(" %d", x)
		}
		fmt.Println()
	}
}

// readSteps reads what printSteps has printed.
func readSteps(t *testing.T, file string) (seed int64, why string, ss []step) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan()
	first, why, _ := strings.Cut(lines.Text(), " ")
	if _, err := fmt.Sscan(first, &seed); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		var s step
		x := &s.x
		if _, err := fmt.Sscanf(lines.Text(), "%q %d %d %d %d %d %d %d %d", &s.op, &s.p, &s.q, &x[0], &x[1], &x[2], &x[3], &x[4], &x[5]); err != nil {
			t.Fatal(err)
		}
		ss = append(ss, s)
	}
	return seed, why, ss
}
