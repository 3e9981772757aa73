// Killed kills the daemon again and again while programs work in its mount, and
// looks whether it comes back in time with all that an fsync has acknowledged.
//
//	go run ./contrib/check/killed [-kills 20] [-within 5s] [-workers 4] [-seed N] [-dir DIR]
//
// Each worker has some files of its own that it creates, writes to in all ways,
// truncates, replaces and removes at random, with an fsync now and then. Before
// each call it notes what the file may be from now on, after an fsync what it must
// be; every such acknowledgement is a line of acks.log in DIR, outside the mount.
// After each kill -9 the daemon is started anew, and each file must be, byte by
// byte, what was acknowledged last or what was written since.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	var o options
	flag.IntVar(&o.kills, "kills", 20, "how often to kill")
	flag.DurationVar(&o.within, "within", 5*time.Second, "how soon the mount must serve again")
	flag.IntVar(&o.workers, "workers", 4, "how many programs work")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of what they do")
	flag.StringVar(&o.dir, "dir", "", "where the daemon's home and the log are kept (a directory that is made and removed)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

type options struct {
	kills, workers int
	within         time.Duration
	seed           uint64
	dir            string
}

func run(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "clachan-killed."); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(o.dir)
			}
		}()
	}
	log.Printf("seed %d, in %s", o.seed, o.dir)
	acks, err := os.Create(filepath.Join(o.dir, "acks.log"))
	if err != nil {
		return err
	}
	defer acks.Close()
	d, err := newDaemon(ctx, o.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.clear()) }()
	var workers []*worker
	for i := range o.workers {
		w := newWorker(i, filepath.Join(d.mnt, fmt.Sprint("w", i)), o.seed+uint64(i), acks)
		if err := os.Mkdir(w.dir, 0o755); err != nil {
			return err
		}
		workers = append(workers, w)
	}
	var took []time.Duration
	for i := range o.kills {
		t, err := round(ctx, d, workers, 300*time.Millisecond+time.Duration(o.seed>>(i%32)%1200)*time.Millisecond)
		if err != nil {
			return fmt.Errorf("kill %d: %w (seed %d; %s stays)", i+1, err, o.seed, o.dir)
		}
		took = append(took, t)
	}
	if err := d.end(); err != nil {
		return err
	}
	return report(took, workers, o.within)
}

// round lets the workers work for a while, kills the daemon, and returns how long
// it took until the mount served again. All must be there then.
func round(ctx context.Context, d *daemon, workers []*worker, while time.Duration) (time.Duration, error) {
	var wg sync.WaitGroup
	errs := make([]error, len(workers))
	for i, w := range workers {
		wg.Go(func() { errs[i] = w.work() })
	}
	select {
	case <-ctx.Done():
	case <-time.After(while):
	}
	begun := time.Now()
	d.kill()
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	if err := d.start(ctx); err != nil {
		return 0, err
	}
	if _, err := os.ReadDir(workers[0].dir); err != nil {
		return 0, fmt.Errorf("the mount does not serve: %w", err)
	}
	took := time.Since(begun)
	for _, w := range workers {
		if err := w.verify(); err != nil {
			return 0, err
		}
	}
	return took, nil
}

func report(took []time.Duration, workers []*worker, within time.Duration) error {
	slices.Sort(took)
	acks, calls := 0, 0
	for _, w := range workers {
		acks, calls = acks+w.acked, calls+w.calls
	}
	if len(took) == 0 {
		return nil
	}
	most := took[len(took)-1]
	log.Printf("%d kills, %d calls, %d acknowledged, 0 lost; serving again after %v, at most %v", len(took), calls, acks,
		took[len(took)/2].Round(time.Millisecond), most.Round(time.Millisecond))
	if most > within {
		return fmt.Errorf("that is more than %v", within)
	}
	return nil
}
