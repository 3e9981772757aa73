package daemon

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestAScrubThatPanicsOnlyFails(t *testing.T) {
	d := &Daemon{log: slog.New(slog.DiscardHandler)}
	if err := d.unharmed(func() error { panic("oh") }); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Error(err)
	}
	failure := errors.New("failure")
	if err := d.unharmed(func() error { return failure }); !errors.Is(err, failure) {
		t.Error(err)
	}
}
