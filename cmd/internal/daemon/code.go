package daemon

import (
	"context"
	"errors"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer"
)

// kinds is the one place that says what an error of another package means to
// whoever asked: the exit code of a verb.
var kinds = []struct {
	err  error
	code control.Code
}{
	{trust.ErrTicket, control.Usage},
	{trust.ErrTicketUsed, control.Denied},
	{trust.ErrTicketExpired, control.Denied},
	{trust.ErrTicketRevoked, control.Denied},
	{trust.ErrRole, control.Denied},
	{trust.ErrNoMember, control.NotFound},
	{trust.ErrNoFolder, control.NotFound},
	{trust.ErrIdentity, control.State},
	{peers.ErrOffline, control.Offline},
	{syncer.ErrOffline, control.Offline},
	{blocks.ErrLocked, control.State},
	{blocks.ErrNewerFormat, control.Newer},
	{wire.ErrVersion, control.Newer},
	{blocks.ErrDamaged, control.Damaged},
	{blocks.ErrNoMeta, control.Damaged},
	{mount.ErrNotEmptyDir, control.Usage},
	{mount.ErrMounted, control.Usage},
	{mount.ErrCovered, control.Usage},
	{mount.ErrOption, control.Usage},
	{context.DeadlineExceeded, control.Timeout},
}

// Code tells the kind of an error.
func Code(err error) control.Code {
	if err == nil {
		return control.OK
	}
	if e, ok := errors.AsType[*control.Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return control.State
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return control.Other
}
