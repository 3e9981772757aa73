package daemon

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/peers/trust"
	"github.com/google/go-cmp/cmp"
)

// rows is a KV in memory whose writes can be made to fail.
type rows struct {
	m   map[string][]byte
	err error
}

func (r *rows) Get(k string) ([]byte, error) { return r.m[k], r.err }
func (r *rows) Set(k string, v []byte) error {
	if r.err == nil {
		r.m[k] = v
	}
	return r.err
}
func (r *rows) Delete(k string) error { delete(r.m, k); return r.err }
func (r *rows) List(prefix string, yield func(string, []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r.m)) {
		if strings.HasPrefix(k, prefix) && !yield(k, r.m[k]) {
			break
		}
	}
	return r.err
}

func TestRecordsComeBack(t *testing.T) {
	kv := &rows{m: map[string][]byte{"peers/x": []byte("not ours")}}
	r := records{kv}
	want := map[trust.FolderID]record{
		{1}: {Num: 1, Name: "a", Dir: "/a", Options: []string{"ro", "uid=7"}, Mounted: true},
		{2}: {Num: 2, Name: "b", Dir: "/b", Leaving: true},
	}
	for id, rec := range want {
		if err := r.save(id, rec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if err := r.remove(trust.FolderID{1}); err != nil {
		t.Fatal(err)
	}
	if got, err = r.load(); err != nil || len(got) != 1 {
		t.Errorf("after a removal: %v, %v", got, err)
	}
}

func TestFolderNumbersAreNeverGivenOutTwice(t *testing.T) {
	kv := &rows{m: map[string][]byte{}}
	seen := map[uint32]bool{0: true} // the device's
	for range 5 {
		n, err := records{kv}.next()
		if err != nil || seen[n] {
			t.Fatalf("number %d, %v", n, err)
		}
		seen[n] = true
	}
	kv.err = errors.New("disk")
	if n, err := (records{kv}).next(); err == nil {
		t.Errorf("gave out %d that is not durable", n)
	}
}

func TestBrokenRecordIsNoEmptyRecord(t *testing.T) {
	for key, val := range map[string]string{recordPrefix + trust.FolderID{}.String(): "{", recordPrefix + "xyz": "{}"} {
		if got, err := (records{&rows{m: map[string][]byte{key: []byte(val)}}}).load(); err == nil {
			t.Errorf("%s: %v", key, got)
		}
	}
}
