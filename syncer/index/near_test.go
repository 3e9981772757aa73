package index

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
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
