package blocks

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestDamagedBlocksAreCountedUntilTheyAreWell(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs)
	s := d.Store(1, testKey)
	const n = 20
	for i := range uint64(n) {
		mustPut(t, s, random(i, MaxBlock))
	}
	check(t, s.Flush(t.Context()))
	count := func(want int) {
		t.Helper()
		if got := s.Damaged(); got != want {
			t.Errorf("%d damaged blocks, want %d", got, want)
		}
	}
	check(t, s.Survey(t.Context()))
	count(0)
	for i := range uint64(3) {
		flip(t, fs, "disk/blocks", random(i, MaxBlock))
	}
	check(t, s.Check(t.Context(), func(ID, error) {}))
	count(3)
	check(t, s.PutVerified(t.Context(), testKey.ID(random(0, MaxBlock)), random(0, MaxBlock)))
	count(2)
	check(t, s.Forget(testKey.ID(random(1, MaxBlock))))
	count(1)
	check(t, d.Close())

	d = closing(t, open(t, fs))
	s = d.Store(1, testKey)
	check(t, s.Survey(t.Context()))
	count(1)
	check(t, s.PutVerified(t.Context(), testKey.ID(random(2, MaxBlock)), random(2, MaxBlock)))
	count(0)
}

func TestMoreDamageThanIsKeptInMindIsCountedAsItIsMended(t *testing.T) {
	d := closing(t, open(t, vfs.NewMem()))
	s := d.Store(1, testKey)
	const n = maxDamaged + 10
	piece := func(i int) []byte { return fmt.Appendf(nil, "piece %d", i) }
	for i := range n {
		id := mustPut(t, s, piece(i))
		check(t, s.Flush(t.Context()))
		loc, err := s.locate(id)
		check(t, err)
		bad := loc
		bad.flags |= flagDamaged
		check(t, s.replace(id, loc, &bad))
	}
	check(t, s.Survey(t.Context()))
	if got := s.Damaged(); got != maxDamaged+1 {
		t.Errorf("%d damaged blocks, want %d", got, maxDamaged+1)
	}
	for i := range n - 5 {
		check(t, s.PutVerified(t.Context(), testKey.ID(piece(i)), piece(i)))
	}
	check(t, s.Survey(t.Context()))
	if got := s.Damaged(); got != 5 {
		t.Errorf("%d damaged blocks, want 5", got)
	}
}

func TestADamagedBlockThatStandsInAFileIsPutAgain(t *testing.T) {
	fs := vfs.NewMem()
	d := closing(t, open(t, fs))
	s := d.Store(1, testKey)
	bad := random(7, MaxBlock)
	id := mustPut(t, s, bad)
	for i := range uint64(5) {
		mustPut(t, s, random(i, MaxBlock))
	}
	check(t, s.Flush(t.Context()))
	flip(t, fs, "disk/blocks", bad)
	check(t, s.Check(t.Context(), func(ID, error) {}))
	if s.Has(id) || s.Damaged() != 1 {
		t.Fatal("the damage is not known")
	}
	f := disk{}
	s.SetSource(f)
	f.place(t, s, 1, bad)
	_, err := s.Known(t.Context(), ID{}, func(v Verdict) error { t.Errorf("known: %+v", v); return nil })
	check(t, err)
	if !s.stored(id) || s.Damaged() != 0 {
		t.Error("it is not stored again")
	}
	check(t, s.Leave(1))
	mustHave(t, s, id, bad)
}
