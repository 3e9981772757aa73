package blocks

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestWhatIsDamagedUnderTheCacheIsFound(t *testing.T) {
	for _, tt := range []struct {
		name string
		look func(*Store, func(ID, error)) error
	}{
		{"scrub", func(s *Store, tell func(ID, error)) error {
			_, _, err := s.Scrub(t.Context(), ID{}, func(v Verdict) error { tell(v.ID, v.Err); return nil })
			return err
		}},
		{"check", func(s *Store, tell func(ID, error)) error { return s.Check(t.Context(), tell) }},
	} {
		for place, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
			t.Run(tt.name+" in "+place, func(t *testing.T) {
				dir := "disk"
				if place == "disk" {
					dir = t.TempDir()
				}
				d, err := OpenDisk(fs, dir, DiskOptions{})
				check(t, err)
				closing(t, d)
				s := d.Store(1, testKey)
				for i := range uint64(20) {
					mustPut(t, s, random(i, MaxBlock))
				}
				check(t, s.Flush(t.Context()))
				damaged := func() (ids []ID) {
					check(t, tt.look(s, func(id ID, err error) {
						if errors.Is(err, ErrDamaged) {
							ids = append(ids, id)
						} else if err != nil {
							t.Error(err)
						}
					}))
					return ids
				}
				if ids := damaged(); len(ids) > 0 {
					t.Fatalf("damaged: %v", ids)
				}
				bad := random(7, MaxBlock)
				id := testKey.ID(bad)
				mustHave(t, s, id, bad) // in the cache now
				flip(t, fs, fs.PathJoin(dir, "blocks"), bad)
				if ids := damaged(); len(ids) != 1 || ids[0] != id {
					t.Errorf("damaged: %v, want %v", ids, id)
				}
				if s.Has(id) {
					t.Error("a damaged block counts as here")
				}
			})
		}
	}
}
