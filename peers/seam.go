package peers

import (
	"context"
	"iter"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// A Folder is the shared tree as sessions need it; *syncer.Folder is one.
type Folder interface {
	// Knowledge is what is durable here.
	Knowledge() model.VV
	// Known is what is here, durable or not: nobody need send it.
	Known() model.VV
	// Since yields the batches not in k, verbatim, in causal order, and ends
	// when all up to Knowledge at the call are yielded. Of those that came over
	// gaps, which Knowledge does not hold, only those after over.
	Since(ctx context.Context, k, over model.VV) iter.Seq2[model.Batch, error]
	// Receive verifies and takes in one batch. An error means that it was not
	// taken in; the session ends, and the batch comes again on the next. After
	// syncer.ErrFull the session goes on, and the batch comes again later.
	Receive(ctx context.Context, from string, b model.Batch) error
	// CaughtUp says that the peer has sent everything up to k.
	CaughtUp(ctx context.Context, from string, k model.VV) error
	// Opening says how the folder is here when a link to a member opens.
	Opening() (model.Opening, error)
	// Meet decides from the openings of both sides whether they may exchange
	// changes: see syncer.Folder.
	Meet(ctx context.Context, peer string, ours, theirs model.Opening) (tell model.Tell, err error)
	// Left says that the link to a member is over; true: all others are to be
	// opened anew.
	Left(peer string) bool
	// Acked says that k is durable at the peer, and how many blocks of current
	// versions it lacks.
	Acked(peer string, k model.VV, missing uint64)
	// Missing is how many blocks of current versions are not here.
	Missing() (blocks, bytes int64)
}

// A Store keeps the blocks of one folder; *blocks.Store is one.
type Store interface {
	Get(ctx context.Context, id blocks.ID, buf []byte) ([]byte, error)
	PutVerified(ctx context.Context, id blocks.ID, data []byte) error
}

// Mode is how much of a folder this device keeps.
type Mode uint8

const (
	Full     Mode = iota // everything
	OnDemand             // what is used
	Plain                // everything, as ordinary files
	Sealed               // ciphertext only
)

// A Share is a folder as it is given to a Node.
type Share struct {
	ID     trust.FolderID
	Folder Folder
	Store  Store
	Mode   Mode
}

// Class orders fetches.
type Class = syncer.Class

// Someone waits; a pull; whenever there is time.
const (
	Waiting    = syncer.Waiting
	Normal     = syncer.Normal
	Background = syncer.Background
	classes    = Background + 1
)

// ErrOffline means that nobody who could answer is connected.
var ErrOffline = syncer.ErrOffline

var _ syncer.Remote = (*Remote)(nil)
