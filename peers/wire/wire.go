package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
)

//go:generate protoc --go_out=. --go_opt=paths=source_relative wire.proto

// Protocol ids.
const (
	Ctl  = "/clachan/ctl/1"
	Pair = "/clachan/pair/1"
	Blk  = "/clachan/blk/1"
)

// Version of the control protocol, in Hello.
const Version = 1

// MaxFrame bounds a frame on a control or pairing stream.
const MaxFrame = 4 << 20

// Type is the type byte of a frame.
type Type byte

const (
	TypeHello       Type = 1
	TypeFolderState Type = 2
	TypeBatch       Type = 3
	TypeCatchUp     Type = 4
	TypeAck         Type = 5
	TypeMemberOps   Type = 6
	TypeMemberWant  Type = 7
	TypePresence    Type = 8
	TypePing        Type = 9
	TypePong        Type = 10
	TypeClose       Type = 11
	TypeKnock       Type = 32
	TypeAnswer      Type = 33
)

var (
	// ErrFrame means the bytes are not what an honest peer sends.
	ErrFrame = errors.New("bad frame")
	// ErrTooBig means that a message is over its bounds.
	ErrTooBig = errors.New("frame too big")
)

// A Message is what a frame can carry.
type Message interface {
	proto.Message
	check() error
}

// TypeOf returns the type byte of a message.
func TypeOf(m Message) Type {
	switch m.(type) {
	case *Hello:
		return TypeHello
	case *FolderState:
		return TypeFolderState
	case *Batch:
		return TypeBatch
	case *CatchUp:
		return TypeCatchUp
	case *Ack:
		return TypeAck
	case *MemberOps:
		return TypeMemberOps
	case *MemberWant:
		return TypeMemberWant
	case *Presence:
		return TypePresence
	case *Ping:
		return TypePing
	case *Pong:
		return TypePong
	case *Close:
		return TypeClose
	case *Knock:
		return TypeKnock
	case *Answer:
		return TypeAnswer
	}
	return 0
}

func newMessage(t Type) Message {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeFolderState:
		return new(FolderState)
	case TypeBatch:
		return new(Batch)
	case TypeCatchUp:
		return new(CatchUp)
	case TypeAck:
		return new(Ack)
	case TypeMemberOps:
		return new(MemberOps)
	case TypeMemberWant:
		return new(MemberWant)
	case TypePresence:
		return new(Presence)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeClose:
		return new(Close)
	case TypeKnock:
		return new(Knock)
	case TypeAnswer:
		return new(Answer)
	}
	return nil
}

// bufs holds frame buffers. Large ones are dropped, not kept.
var bufs = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 512 << 10

func getBuf(n int) *[]byte {
	b := bufs.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, 0, n)
	}
	*b = (*b)[:0]
	return b
}

func putBuf(b *[]byte) {
	if cap(*b) <= maxPooled {
		bufs.Put(b)
	}
}

// Write writes one frame with a single call of w.Write.
func Write(w io.Writer, m Message) error {
	size := proto.Size(m)
	if size+1 > MaxFrame {
		return fmt.Errorf("write frame: %w: %d bytes", ErrTooBig, size)
	}
	buf := getBuf(size + 1 + binary.MaxVarintLen32)
	defer putBuf(buf)
	b := binary.AppendUvarint(*buf, uint64(size)+1)
	b = append(b, byte(TypeOf(m)))
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	*buf = b
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// A Reader reads frames.
type Reader struct {
	r   *bufio.Reader
	max int
}

// NewReader returns a reader of frames of at most max bytes.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 16<<10), max: min(max, MaxFrame)}
}

// Read returns the next message of a known type, within its bounds. At the end
// of the stream between two frames it returns io.EOF.
func (r *Reader) Read() (Message, error) {
	for {
		m, err := r.read()
		if m != nil || err != nil {
			return m, err
		}
	}
}

// read returns nil, nil for a frame of an unknown type.
func (r *Reader) read() (Message, error) {
	n, err := binary.ReadUvarint(r.r)
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("read frame: %w", err)
	case n == 0:
		return nil, fmt.Errorf("read frame: %w: empty", ErrFrame)
	case n > uint64(r.max):
		return nil, fmt.Errorf("read frame: %w: %d bytes", ErrTooBig, n)
	}
	t, err := r.r.ReadByte()
	if err != nil {
		return nil, fmt.Errorf("read frame: %w", noEOF(err))
	}
	size := int(n) - 1
	m := newMessage(Type(t))
	if m == nil {
		if _, err := r.r.Discard(size); err != nil {
			return nil, fmt.Errorf("skip frame: %w", noEOF(err))
		}
		return nil, nil
	}
	if size > maxSize(Type(t)) {
		return nil, fmt.Errorf("read frame: %w: type %d of %d bytes", ErrTooBig, t, size)
	}
	buf, err := r.body(size)
	if err != nil {
		return nil, fmt.Errorf("read frame: %w", noEOF(err))
	}
	defer putBuf(buf)
	if err := countFields(*buf); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	if err := proto.Unmarshal(*buf, m); err != nil {
		return nil, fmt.Errorf("read frame: %w: %w", ErrFrame, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return m, nil
}

// body reads n bytes. The buffer grows as they arrive: a length alone costs
// nothing.
func (r *Reader) body(n int) (*[]byte, error) {
	const step = 64 << 10
	buf := getBuf(min(n, step))
	for len(*buf) < n {
		at, more := len(*buf), min(n-len(*buf), max(step, len(*buf)))
		if cap(*buf) < at+more {
			*buf = append(make([]byte, 0, at+more), *buf...)
		}
		*buf = (*buf)[:at+more]
		if _, err := io.ReadFull(r.r, (*buf)[at:]); err != nil {
			putBuf(buf)
			return nil, err
		}
	}
	return buf, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
