package simtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clachanfs/clachan/syncer/model"
)

const unlogged = "CLACHAN_UNLOGGED"

// TestADiskThatCannotLogEndsTheProcessWhichAnnouncesNothing: Pebble cannot go on
// when it cannot write its log, and ends the process. What was not durable by
// then nobody has heard of.
func TestADiskThatCannotLogEndsTheProcessWhichAnnouncesNothing(t *testing.T) {
	if os.Getenv(unlogged) != "" {
		synctest.Test(t, unloggedWorld)
		return
	}
	c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), unlogged+"=1")
	out, err := c.CombinedOutput()
	text := string(out)
	if err == nil || !strings.Contains(text, "the disk fails") || !strings.Contains(text, "the end: ") || !strings.Contains(text, "input/output error") {
		t.Errorf("goes on: %v\n%.2000s", err, text)
	}
	if strings.Contains(text, "is told") {
		t.Errorf("somebody has heard of it:\n%.2000s", text)
	}
}

func unloggedWorld(t *testing.T) {
	w, err := newWorld(&plan{peers: 2, slow: -1, sized: make([]bool, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range w.ms {
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := w.ms[0], w.ms[1]
	_ = a.mkdir("/first")
	w.together()
	var before model.VV = b.f.Joined()
	a.d.logs.Store(true)
	fmt.Println("the disk fails")
	go func() {
		for {
			time.Sleep(time.Millisecond)
			if k := a.announced.Load(); k == nil || !k.LE(before) || !b.f.Joined().Equal(before) {
				fmt.Println("is told", k, b.f.Joined())
			}
		}
	}()
	_ = a.mkdir("/lost")
	_ = a.f.Sync()
	time.Sleep(time.Minute)
	os.Exit(0) // it goes on
}
