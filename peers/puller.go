package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
)

var (
	errNoHave = errors.New("peer does not have the block")
	errLost   = errors.New("block stream lost")
)

// A puller asks one peer for blocks of one class, on one stream that is opened
// when it is first needed.
type puller struct {
	s     *session
	class Class

	mu      sync.Mutex // guards all below
	closed  bool
	opening chan struct{} // not nil: somebody opens the stream; closed when that is over
	st      *counted
	folders map[trust.FolderID]uint16
	next    uint32
	calls   map[uint32]*call

	out sync.Mutex // taken before mu; held over one write to the stream
}

// A call is one request in flight.
type call struct {
	p      *puller
	id     uint32
	answer chan answer // cap 1
}

// An answer is a verified-by-nobody block in a pooled buffer, or an error.
type answer struct {
	buf  *[]byte
	data []byte
	err  error
}

func (a answer) free() {
	if a.buf != nil {
		blockBufs.Put(a.buf)
	}
}

func newPuller(s *session, class Class) *puller {
	return &puller{s: s, class: class, folders: map[trust.FolderID]uint16{}, calls: map[uint32]*call{}}
}

// ask sends a request. The answer comes on the call's channel, once.
func (p *puller) ask(ctx context.Context, folder trust.FolderID, id blocks.ID, size int64) (*call, error) {
	st, err := p.stream(ctx)
	if err != nil {
		return nil, err
	}
	p.out.Lock() // first: a folder is named before it is used
	p.mu.Lock()
	if p.st != st {
		p.mu.Unlock()
		p.out.Unlock()
		return nil, errLost
	}
	var head []byte
	num, named := p.folders[folder]
	if !named {
		if len(p.folders) == wire.MaxStreamFolders {
			p.mu.Unlock()
			p.out.Unlock()
			return nil, fmt.Errorf("%w: too many folders", errLost)
		}
		num = uint16(len(p.folders))
		p.folders[folder] = num
		head = wire.Request{Op: wire.Folder, Folder: num, Hash: folder}.AppendTo(head)
	}
	c := &call{p: p, id: p.next, answer: make(chan answer, 1)}
	p.next++
	p.calls[c.id] = c
	p.mu.Unlock()
	q := wire.Request{Op: wire.Get, Class: uint8(p.class), Folder: num, ID: c.id, Size: uint32(size), Hash: id}
	_ = st.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = st.Write(q.AppendTo(head))
	p.out.Unlock()
	if err != nil {
		p.drop(st, err)
	}
	return c, nil // drop has answered it
}

// stream returns the stream, opening it if there is none.
func (p *puller) stream(ctx context.Context) (*counted, error) {
	for {
		p.mu.Lock()
		switch {
		case p.closed:
			p.mu.Unlock()
			return nil, errLost
		case p.st != nil:
			defer p.mu.Unlock()
			return p.st, nil
		case p.opening == nil:
			done := make(chan struct{})
			p.opening = done
			p.mu.Unlock()
			return p.open(ctx, done)
		}
		opening := p.opening
		p.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *puller) open(ctx context.Context, done chan struct{}) (*counted, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	raw, err := p.s.n.newStream(ctx, p.s.p, blkKind)
	var st *counted
	if err == nil {
		c := p.s.n.count(raw)
		st = &c
	}
	p.mu.Lock()
	p.opening = nil
	over := p.closed
	if st != nil && !over {
		p.st = st
		clear(p.folders)
	}
	p.mu.Unlock()
	close(done)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	if over || !p.s.spawn(func() { p.drop(st, p.read(st)) }) {
		p.drop(st, errLost)
		_ = st.Reset()
		return nil, errLost
	}
	return st, nil
}

// read hands answers to their calls until the stream ends.
func (p *puller) read(st *counted) error {
	for {
		a, err := wire.ReadReply(st)
		if err != nil {
			return err
		}
		buf := blockBufs.Get().(*[]byte)
		data := (*buf)[:a.Wire]
		if _, err := io.ReadFull(st, data); err != nil {
			blockBufs.Put(buf)
			return err
		}
		p.mu.Lock()
		c := p.calls[a.ID]
		delete(p.calls, a.ID)
		p.mu.Unlock()
		got := answer{buf: buf, data: data}
		if a.Status != wire.StatusOK || a.Flags != 0 {
			got.err = errNoHave
		}
		if c == nil { // cancelled
			got.free()
			continue
		}
		c.answer <- got
	}
}

// drop ends a stream: its calls are lost.
func (p *puller) drop(st *counted, err error) {
	p.mu.Lock()
	if p.st != st {
		p.mu.Unlock()
		return
	}
	p.st = nil
	calls := p.calls
	p.calls = map[uint32]*call{}
	p.mu.Unlock()
	_ = st.Reset()
	for _, c := range calls {
		c.answer <- answer{err: fmt.Errorf("%w: %w", errLost, err)}
	}
}

// close ends the puller with its session.
func (p *puller) close() {
	p.mu.Lock()
	p.closed = true
	st := p.st
	p.mu.Unlock()
	if st != nil {
		p.drop(st, errLost)
	}
}

// cancel gives a call up: its answer is not wanted any more.
func (c *call) cancel() {
	p := c.p
	p.mu.Lock()
	_, open := p.calls[c.id]
	delete(p.calls, c.id)
	st := p.st
	p.mu.Unlock()
	if !open || st == nil {
		select {
		case a := <-c.answer:
			a.free()
		default:
		}
		return
	}
	p.out.Lock()
	defer p.out.Unlock()
	_ = st.SetWriteDeadline(time.Now().Add(goodbyeTime))
	if _, err := st.Write((wire.Request{Op: wire.Cancel, ID: c.id}).AppendTo(nil)); err != nil {
		p.s.n.log.Debug("cancel", "peer", p.s.p, "err", err)
	}
}
