package blocks

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestAScrubSeesEveryBlockOnceAndGoesOnWhereItWas(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	const n, large = 2*scrubRows + 100, 8
	bad := random(7, MaxBlock)
	for i := range uint64(large) { // each is read by itself
		mustPut(t, s, random(i, MaxBlock))
	}
	check(t, s.Flush(t.Context()))
	for i := range uint64(n - large) {
		mustPut(t, s, random(large+i, 100))
	}
	check(t, s.Flush(t.Context()))
	check(t, s.fold(t.Context()))
	check(t, d.Close())
	flip(t, fs, "disk/blocks", bad)

	d = closing(t, open(t, fs))
	s = d.Store(1, testKey)
	seen := map[ID]error{}
	rounds := 0
	round := func() {
		t.Helper()
		clear(seen)
		rounds = 0
		for at, done := (ID{}), false; !done; rounds++ {
			var err error
			at, done, err = s.Scrub(t.Context(), at, func(v Verdict) error {
				if _, twice := seen[v.ID]; twice {
					t.Fatalf("%s is seen twice", v.ID)
				}
				seen[v.ID] = v.Err
				return nil
			})
			check(t, err)
		}
	}
	round()
	if len(seen) != n || rounds != 3 {
		t.Errorf("%d blocks in %d rounds, want %d in 3", len(seen), rounds, n)
	}
	for id, err := range seen {
		if wrong := id == testKey.ID(bad); wrong != errors.Is(err, ErrDamaged) {
			t.Errorf("block %s: %v", id, err)
		}
	}
	round()
	if _, again := seen[testKey.ID(bad)]; again || len(seen) != n-1 {
		t.Errorf("%d blocks, with what is known to be damaged: %v", len(seen), again)
	}
	known := 0
	_, err := s.Known(t.Context(), ID{}, func(v Verdict) error {
		known++
		if v.ID != testKey.ID(bad) || v.Size != MaxBlock {
			t.Errorf("known: %+v", v)
		}
		return nil
	})
	check(t, err)
	check(t, s.PutVerified(t.Context(), testKey.ID(bad), bad))
	check(t, s.Flush(t.Context()))
	_, err = s.Known(t.Context(), ID{}, func(Verdict) error { known++; return nil })
	check(t, err)
	if known != 1 {
		t.Errorf("known %d times", known)
	}
	mustHave(t, s, testKey.ID(bad), bad)
}

func TestAScrubThatIsStoppedGoesOnWithTheBlockItWasToldTo(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	const n = 50
	for i := range uint64(n) {
		mustPut(t, s, random(i, 100))
	}
	check(t, s.Flush(t.Context()))
	enough := errors.New("enough")
	seen := map[ID]bool{}
	rounds := 0
	for at, done := (ID{}), false; !done; rounds++ {
		told := 0
		var err error
		at, done, err = s.Scrub(t.Context(), at, func(v Verdict) error {
			if told == 20 {
				return enough
			}
			told++
			if seen[v.ID] {
				t.Errorf("%s is seen twice", v.ID)
			}
			seen[v.ID] = true
			return nil
		})
		if done == errors.Is(err, enough) {
			t.Fatalf("done %v, %v", done, err)
		}
	}
	if len(seen) != n || rounds != 3 {
		t.Errorf("%d blocks in %d rounds, want %d in 3", len(seen), rounds, n)
	}
}

func TestALookAtWhatIsDamagedGoesOnWhereItWas(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	const n = 5
	for i := range uint64(n) {
		id := mustPut(t, s, random(i, 100))
		check(t, s.Flush(t.Context()))
		loc, err := s.locate(id)
		check(t, err)
		bad := loc
		bad.flags |= flagDamaged
		check(t, s.replace(id, loc, &bad))
	}
	enough := errors.New("enough")
	seen := map[ID]bool{}
	at, err := ID{}, enough
	for errors.Is(err, enough) {
		told := 0
		at, err = s.Known(t.Context(), at, func(v Verdict) error {
			if told == 2 {
				return enough
			}
			told++
			if seen[v.ID] {
				t.Errorf("%s is seen twice", v.ID)
			}
			seen[v.ID] = true
			return nil
		})
	}
	check(t, err)
	if len(seen) != n {
		t.Errorf("%d blocks, want %d", len(seen), n)
	}
}
