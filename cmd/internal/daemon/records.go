package daemon

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/clachanfs/clachan/peers/trust"
)

const (
	recordPrefix = "daemon/folder/"
	nextKey      = "daemon/next"
)

// A record is what the daemon remembers of a folder.
type record struct {
	Num     uint32   `json:"num"` // the folder's key prefix in the store
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`
	Options []string `json:"options"`
	Mounted bool     `json:"mounted"` // it is, or should be
	Leaving bool     `json:"leaving,omitempty"`
	Plain   bool     `json:"plain,omitempty"` // as a directory on disk, which Mounted says is kept the same
	Taken   bool     `json:"taken,omitempty"` // the directory of a plain folder bears its mark
}

// records keeps the records in the device's rows.
type records struct{ kv trust.KV }

func (r records) load() (map[trust.FolderID]record, error) {
	all := map[trust.FolderID]record{}
	var bad error
	err := r.kv.List(recordPrefix, func(key string, val []byte) bool {
		var rec record
		id, err := trust.ParseFolderID(strings.TrimPrefix(key, recordPrefix))
		if err == nil {
			err = json.Unmarshal(val, &rec)
		}
		if err != nil {
			bad = fmt.Errorf("record %s: %w", key, err)
			return false
		}
		all[id] = rec
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return all, bad
}

func (r records) save(id trust.FolderID, rec record) error {
	val, err := json.Marshal(rec)
	if err == nil {
		err = r.kv.Set(recordPrefix+id.String(), val)
	}
	if err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	return nil
}

func (r records) remove(id trust.FolderID) error {
	if err := r.kv.Delete(recordPrefix + id.String()); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	return nil
}

// next gives out a folder number. It is durable before it is used: rows of a
// folder that was left must never turn up in another.
func (r records) next() (uint32, error) {
	val, err := r.kv.Get(nextKey)
	if err != nil {
		return 0, fmt.Errorf("folder number: %w", err)
	}
	n := uint64(1) // 0 is the device
	if val != nil {
		if n, err = strconv.ParseUint(string(val), 10, 32); err != nil {
			return 0, fmt.Errorf("folder number: %w", err)
		}
	}
	if err := r.kv.Set(nextKey, []byte(strconv.FormatUint(n+1, 10))); err != nil {
		return 0, fmt.Errorf("folder number: %w", err)
	}
	return uint32(n), nil
}
