package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

func TestOneDaemonHoldsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = takeLock(path)
	if Code(err) != control.State || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("second: %v", err)
	}
	f.Close()
	f, err = takeLock(path)
	if err != nil {
		t.Fatalf("after the first is gone: %v", err)
	}
	f.Close()
}
