package index

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clachanfs/clachan/syncer/model"
)

// Rows that are read at once are those that are read one by one.
func TestRowsReadAtOnceAreThoseThatAreThere(t *testing.T) {
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	key := func() []byte { return fmt.Appendf(nil, "%c%03d", 'a'+rnd.IntN(3), rnd.IntN(400)) }
	for range 300 {
		k := key()
		if err := db.Set(k, append([]byte("of "), k...), nil); err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(10) == 0 {
			if err := errors.Join(db.Delete(key(), nil), db.Flush()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 200 {
		var keys [][]byte
		for range n {
			keys = append(keys, key()) // some twice
		}
		known, err := readNear(db, keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range append(keys, key()) {
			want, werr := get(db, k)
			got, err := known.get(db, k)
			if !bytes.Equal(got, want) || errors.Is(err, ErrNotFound) != errors.Is(werr, ErrNotFound) {
				t.Fatalf("seed %d: %s of %d keys is %q, %v; want %q, %v", seed, k, n, got, err, want, werr)
			}
		}
	}
	failed := errors.New("failed")
	if err := db.Set([]byte("b"), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := getNear(db, [][]byte{[]byte("a"), []byte("b"), []byte("zzz")}, func(int, []byte) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if err := db.Close(); err != nil { // an iterator is left open
		t.Error(err)
	}
}

// What a Tx has read before it is asked changes nothing of what it tells, however names are
// spelt, and whatever it has changed before.
func TestATxThatHasReadAheadTellsTheSame(t *testing.T) {
	for _, names := range []string{model.NamesBytes, model.NamesPortable} {
		v, err := newViewed(names, &viewMet{})
		if err != nil {
			t.Fatal(err)
		}
		name := func(i int) string { return fmt.Sprintf("Name %d", i) }
		tx := v.ix.Begin()
		var inos []Ino
		for i := range 40 {
			ino := tx.Allocate(&Row{Kind: model.File, Mode: uint32(i)})
			tx.SetEntry(RootIno, name(i), ino)
			inos = append(inos, ino)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		change := func() *Tx {
			tx := v.ix.Begin()
			tx.RemoveEntry(RootIno, name(3))
			tx.SetEntry(RootIno, name(50), inos[3])
			tx.Row(inos[4]).Mode = 0o777
			tx.Changed(inos[4])
			return tx
		}
		one, ahead := change(), change()
		var places []Place
		for i := range 60 {
			places = append(places, Place{RootIno, name(i)}, Place{RootIno, strings.ToLower(name(i))})
		}
		inos = append(inos, 1<<40) // there is none
		ahead.Near(places, inos)
		for _, k := range places {
			want, wok := one.Entry(k.Dir, k.Name)
			if got, ok := ahead.Entry(k.Dir, k.Name); got != want || ok != wok {
				t.Errorf("%s: %v is %+v, %v; want %+v, %v", names, k, got, ok, want, wok)
			}
		}
		for _, ino := range inos {
			if got, want := ahead.Row(ino), one.Row(ino); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: row %d is %+v, want %+v", names, ino, got, want)
			}
		}
		ahead.Abort()
		one.Abort()
		if err := errors.Join(ahead.Err(), one.Err(), v.db.Close()); err != nil {
			t.Error(err)
		}
	}
}
