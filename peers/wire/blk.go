package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxBlock bounds the bytes of one block on the wire.
const MaxBlock = 512 << 10

// MaxStreamFolders bounds the folders named on one block stream.
const MaxStreamFolders = 1024

// Op is what a block request asks for.
type Op uint8

const (
	Get    Op = 1
	Cancel Op = 2 // drop the queued request of that id
	Folder Op = 3 // bind a folder number
)

// Status is how a block request was answered.
type Status uint8

const (
	StatusOK     Status = 0
	StatusNoHave Status = 1
	StatusBusy   Status = 2
	StatusDenied Status = 3
	StatusGone   Status = 4 // the answering side is leaving
)

const (
	requestLen = 44
	answerLen  = 16
)

// A Request is the header of a block request.
type Request struct {
	Op     Op
	Class  uint8
	Folder uint16
	ID     uint32
	Size   uint32 // as far as the asker knows; 0 unknown
	Hash   [32]byte
}

// AppendTo appends the header's bytes.
func (q Request) AppendTo(b []byte) []byte {
	b = append(b, byte(q.Op), q.Class)
	b = binary.BigEndian.AppendUint16(b, q.Folder)
	b = binary.BigEndian.AppendUint32(b, q.ID)
	b = binary.BigEndian.AppendUint32(b, q.Size)
	return append(b, q.Hash[:]...)
}

// ReadRequest reads one request header.
func ReadRequest(r io.Reader) (q Request, err error) {
	var b [requestLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return q, err
	}
	q = Request{
		Op: Op(b[0]), Class: b[1], Folder: binary.BigEndian.Uint16(b[2:]), ID: binary.BigEndian.Uint32(b[4:]),
		Size: binary.BigEndian.Uint32(b[8:]), Hash: [32]byte(b[12:]),
	}
	if q.Size > MaxBlock || q.Folder >= MaxStreamFolders {
		return q, fmt.Errorf("%w: block request", ErrFrame)
	}
	return q, nil
}

// A Reply is the header of an answer to a block request.
type Reply struct {
	Status Status
	Flags  uint8
	ID     uint32
	Size   uint32 // of the block
	Wire   uint32 // bytes that follow
}

// AppendTo appends the header's bytes.
func (a Reply) AppendTo(b []byte) []byte {
	b = append(b, byte(a.Status), a.Flags, 0, 0)
	b = binary.BigEndian.AppendUint32(b, a.ID)
	b = binary.BigEndian.AppendUint32(b, a.Size)
	return binary.BigEndian.AppendUint32(b, a.Wire)
}

// ReadReply reads one answer header. The bytes that follow are within bounds.
func ReadReply(r io.Reader) (a Reply, err error) {
	var b [answerLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return a, err
	}
	a = Reply{
		Status: Status(b[0]), Flags: b[1], ID: binary.BigEndian.Uint32(b[4:]),
		Size: binary.BigEndian.Uint32(b[8:]), Wire: binary.BigEndian.Uint32(b[12:]),
	}
	if a.Size > MaxBlock || a.Wire > MaxBlock {
		return a, fmt.Errorf("%w: block of %d bytes", ErrTooBig, max(a.Size, a.Wire))
	}
	if a.Status != StatusOK && a.Wire != 0 {
		return a, fmt.Errorf("%w: bytes without a block", ErrFrame)
	}
	return a, nil
}
