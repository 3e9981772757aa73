package peers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

const (
	servePeer    = 16 << 20 // bytes of blocks served to one peer at once
	serveAll     = 64 << 20 // and to all
	serveWorkers = 2        // a stream: one reads the store while the other sends
	serveQueue   = 1024     // requests a stream; more wait in the peer
	// replyRoom is kept free before a block's bytes, for the answer's header.
	replyRoom = 16
	blockIdle = 10 * time.Minute // block streams without requests are closed
)

// blockBufs holds buffers for one block and its header.
var blockBufs = sync.Pool{New: func() any {
	b := make([]byte, 0, replyRoom+wire.MaxBlock)
	return &b
}}

// A server answers the requests of one block stream.
type server struct {
	n  *Node
	st counted
	t  *traffic

	queue chan *request

	mu      sync.Mutex // guards both
	folders map[uint16]trust.FolderID
	pending map[uint32]*request

	out sync.Mutex // held over one write to the stream
}

type request struct {
	wire.Request
	folder   trust.FolderID
	canceled bool // guarded by server.mu
}

func (n *Node) handleBlocks(raw network.Stream) {
	p := raw.Conn().RemotePeer()
	if n.keeper(p) == nil || !n.spawn(func(ctx context.Context) { n.serveBlocks(ctx, raw) }) {
		_ = raw.Reset()
	}
}

func (n *Node) serveBlocks(ctx context.Context, raw network.Stream) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = raw.Reset() })()
	v := &server{
		n: n, st: n.count(raw), t: n.trafficOf(raw.Conn().RemotePeer()), queue: make(chan *request, serveQueue),
		folders: map[uint16]trust.FolderID{}, pending: map[uint32]*request{},
	}
	var wg sync.WaitGroup
	for range serveWorkers {
		wg.Go(func() {
			for q := range v.queue {
				if ctx.Err() == nil && v.answer(ctx, q) != nil {
					cancel()
				}
			}
		})
	}
	if err := v.read(ctx); err != nil {
		n.log.Debug("block stream", "peer", raw.Conn().RemotePeer(), "err", err)
	}
	cancel()
	close(v.queue)
	wg.Wait()
}

// read queues requests until the stream ends.
func (v *server) read(ctx context.Context) error {
	for {
		_ = v.st.SetReadDeadline(time.Now().Add(blockIdle))
		q, err := wire.ReadRequest(v.st)
		if err != nil {
			return err
		}
		switch q.Op {
		case wire.Folder:
			v.mu.Lock()
			v.folders[q.Folder] = q.Hash
			v.mu.Unlock()
		case wire.Cancel:
			v.mu.Lock()
			if p := v.pending[q.ID]; p != nil {
				p.canceled = true
			}
			v.mu.Unlock()
		case wire.Get:
			v.mu.Lock()
			r := &request{Request: q, folder: v.folders[q.Folder]}
			_, twice := v.pending[q.ID]
			v.pending[q.ID] = r
			v.mu.Unlock()
			if twice {
				return wire.ErrFrame
			}
			select {
			case v.queue <- r:
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			return wire.ErrFrame
		}
	}
}

// answer reads one block and sends it. Room for it is reserved before the
// store is touched.
func (v *server) answer(ctx context.Context, q *request) error {
	v.mu.Lock()
	delete(v.pending, q.ID)
	canceled := q.canceled
	v.mu.Unlock()
	if canceled {
		return nil
	}
	const room = wire.MaxBlock
	if err := v.t.serve.Acquire(ctx, room); err != nil {
		return err
	}
	defer v.t.serve.Release(room)
	if err := v.n.serve.Acquire(ctx, room); err != nil {
		return err
	}
	defer v.n.serve.Release(room)

	buf := blockBufs.Get().(*[]byte)
	defer blockBufs.Put(buf)
	data, status := v.load(ctx, q, (*buf)[replyRoom:replyRoom])
	reply := wire.Reply{Status: status, ID: q.ID, Size: uint32(len(data)), Wire: uint32(len(data))}
	out := reply.AppendTo((*buf)[:0])
	if len(data) > 0 {
		full := (*buf)[:replyRoom+len(data)]
		if &full[replyRoom] != &data[0] { // the store has its own
			copy(full[replyRoom:], data)
		}
		out = full
	}
	v.out.Lock()
	defer v.out.Unlock()
	_ = v.st.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := v.st.Write(out)
	return err
}

// load returns a block, if the asker is a member of its folder.
func (v *server) load(ctx context.Context, q *request, buf []byte) ([]byte, wire.Status) {
	pub, err := trust.PeerKey(v.st.Conn().RemotePeer())
	r := v.n.remote(q.folder)
	if err != nil || r == nil || r.log().Role(pub) < trust.Reader {
		return nil, wire.StatusDenied
	}
	at, ctx, release := r.acquire(ctx)
	if at == nil {
		return nil, wire.StatusGone
	}
	defer release()
	data, err := at.Store.Get(ctx, blocks.ID(q.Hash), buf)
	switch {
	case err == nil && len(data) <= wire.MaxBlock:
		return data, wire.StatusOK
	case errors.Is(err, blocks.ErrNotFound), errors.Is(err, blocks.ErrDamaged):
		return nil, wire.StatusNoHave
	}
	v.n.log.Warn("serve block", "folder", r.id, "err", err)
	return nil, wire.StatusBusy
}
