package service

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// told is a Watch whose messages are kept.
func told(limit time.Duration) (*Watch, func(prefix string) int) {
	var mu sync.Mutex
	var all []string
	w := &Watch{log: slog.New(slog.DiscardHandler), ready: make(chan struct{}), limit: limit,
		beat: func(s string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, strings.Split(s, "\n")...)
			return true, nil
		}}
	return w, func(prefix string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range all {
			if strings.HasPrefix(s, prefix) {
				n++
			}
		}
		return n
	}
}

func TestSystemdHearsOfALifeFromStartToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Value
		status.Store("one")
		w, n := told(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(5 * time.Minute) // a start that lasts longer than systemd waits
		synctest.Wait()
		if n("EXTEND_TIMEOUT_USEC=30000000") < 5*60/30 || n("READY=1") != 0 || n("WATCHDOG=1") != 0 {
			t.Errorf("extended %d times, ready %d times, beaten %d times in a start", n("EXTEND_"), n("READY=1"), n("WATCHDOG"))
		}
		w.Ready(func() error { return nil }, func() string { return status.Load().(string) })
		extended := n("EXTEND_")
		time.Sleep(10 * time.Minute)
		status.Store("two")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n("READY=1") != 1 || n("STATUS=one") == 0 || n("STATUS=two") != 1 || n("EXTEND_") != extended {
			t.Errorf("ready %d, one %d, two %d, extended %d more", n("READY=1"), n("STATUS=one"), n("STATUS=two"), n("EXTEND_")-extended)
		}
		if got := n("WATCHDOG=1"); got < 11*3 {
			t.Errorf("beaten %d times in 11 minutes of one each", got)
		}
		w.Reload(func() {
			if n("RELOADING=1") != 1 || n("MONOTONIC_USEC=") != 1 {
				t.Error("a reload is not told")
			}
		})
		if n("READY=1") != 2 {
			t.Error("the end of a reload is not told")
		}
		cancel()
		if err := <-done; err != nil || n("STOPPING=1") != 1 {
			t.Errorf("%v, stopping told %d times", err, n("STOPPING=1"))
		}
	})
}

func TestWhatHangsOrFailsIsNotAlive(t *testing.T) {
	for name, alive := range map[string]func() error{
		"hangs": func() error { time.Sleep(time.Hour); return nil },
		"slow":  func() error { time.Sleep(31 * time.Second); return nil },
		"fails": func() error { return errors.New("gone") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				w, n := told(time.Minute)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				w.Ready(func() error { asked++; return alive() }, func() string { return "" })
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if n("WATCHDOG=1") != 0 || asked == 0 {
					t.Errorf("beaten %d times, asked %d times", n("WATCHDOG=1"), asked)
				}
				if name == "hangs" && asked != 1 {
					t.Errorf("asked %d times while the first hangs", asked)
				}
				cancel()
				<-done
				time.Sleep(time.Hour) // the last to be asked
			})
		})
	}
}

func TestAStartThatHangsIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, n := told(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(startMost + time.Minute)
		synctest.Wait()
		most := n("EXTEND_")
		time.Sleep(startMost)
		synctest.Wait()
		if n("EXTEND_") != most || most == 0 {
			t.Errorf("extended %d times, and %d later", most, n("EXTEND_"))
		}
		cancel()
		if err := <-done; err != nil || n("STOPPING=1") != 1 {
			t.Errorf("%v, stopping told %d times", err, n("STOPPING=1"))
		}
	})
}

func TestNobodyIsAskedForAStatusThatNobodyHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := told(0)
		w.beat = func(string) (bool, error) { return false, nil } // there is no systemd
		asked := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		w.Ready(func() error { return nil }, func() string { asked++; return "" })
		time.Sleep(time.Hour)
		cancel()
		if err := <-done; err != nil || asked > 1 {
			t.Errorf("asked %d times, %v", asked, err)
		}
	})
}
