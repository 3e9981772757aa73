package wire

import (
	"fmt"
	"unicode/utf8"

	"github.com/clachanfs/clachan/syncer/model"
	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of what a message may hold.
const (
	MaxHeads    = 1024
	MaxAddrs    = 32
	MaxAddrSize = 256
	MaxSeen     = 1024
	MaxText     = 256
	MaxHeader   = 96 << 10
	MaxBody     = model.MaxBatchBytes + model.MaxChangeBytes
	MaxMembers  = 4096 // ops in one frame
	maxOpBytes  = 64 << 10
	maxVV       = model.MaxReplicas * 18
	maxMarks    = model.MaxMarks * model.MarkBytes
	maxProofs   = model.MaxProofBytes + 4*model.MaxProofs
)

// maxSize bounds a frame by its type, before anything is allocated for it.
func maxSize(t Type) int {
	switch t {
	case TypeBatch:
		return MaxHeader + MaxBody + 1<<10
	case TypeMemberOps, TypeKnock:
		return MaxFrame
	case TypeFolderState:
		return MaxHeads*34 + 3*maxVV + maxMarks + maxProofs + 1<<10
	case TypeCatchUp, TypeAck, TypeMemberWant, TypePresence, TypeAnswer:
		return 512 << 10
	}
	return 64 << 10
}

// maxFields bounds the fields of a message, repeated ones counted each time:
// small fields take more memory decoded than encoded.
const maxFields = MaxMembers + 16

// countFields refuses a message of too many fields before it is decoded.
func countFields(b []byte) error {
	for n := 0; len(b) > 0; n++ {
		_, _, m := protowire.ConsumeField(b)
		if m < 0 || n == maxFields {
			return fmt.Errorf("%w: fields", ErrFrame)
		}
		b = b[m:]
	}
	return nil
}

func size(what string, n, want int) error {
	if n != want {
		return fmt.Errorf("%w: %s of %d bytes", ErrFrame, what, n)
	}
	return nil
}

func atMost(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%w: %s: %d is over %d", ErrTooBig, what, n, limit)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func hashes(what string, list [][]byte, limit int) error {
	if err := atMost(what, len(list), limit); err != nil {
		return err
	}
	for _, h := range list {
		if err := size(what, len(h), 32); err != nil {
			return err
		}
	}
	return nil
}

func texts(what string, list []string, limit, each int) error {
	if err := atMost(what, len(list), limit); err != nil {
		return err
	}
	for _, s := range list {
		if err := text(what, s, each); err != nil {
			return err
		}
	}
	return nil
}

func text(what, s string, limit int) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrFrame, what)
	}
	return atMost(what, len(s), limit)
}

func ops(list [][]byte) error {
	if err := atMost("ops", len(list), MaxMembers); err != nil {
		return err
	}
	for _, o := range list {
		if err := atMost("op", len(o), maxOpBytes); err != nil {
			return err
		}
	}
	return nil
}

func seen(list []*Seen) error {
	if err := atMost("seen", len(list), MaxSeen); err != nil {
		return err
	}
	for _, s := range list {
		if err := firstError(size("peer", len(s.GetPeer()), 32), addrs(s.GetAddrs())); err != nil {
			return err
		}
	}
	return nil
}

func addrs(list []string) error { return texts("addrs", list, MaxAddrs, MaxAddrSize) }

func (m *Hello) check() error {
	return firstError(text("device", m.Device, MaxText), text("agent", m.Agent, MaxText), addrs(m.Addrs))
}

func (m *FolderState) check() error {
	o := m.GetOpening()
	return firstError(size("folder", len(m.GetFolder()), 32), hashes("heads", m.GetHeads(), MaxHeads),
		atMost("knowledge", len(m.GetKnowledge()), maxVV), atMost("opening", len(o.GetKnowledge()), maxVV),
		atMost("horizon", len(o.GetHorizon()), maxVV), atMost("marks", len(o.GetMarks())+len(o.GetTold()), maxMarks),
		atMost("proofs", len(o.GetProofs()), maxProofs))
}

func (m *Batch) check() error {
	return firstError(size("folder", len(m.Folder), 32), atMost("header", len(m.Header), MaxHeader),
		atMost("body", len(m.Body), MaxBody))
}

func (m *CatchUp) check() error {
	return firstError(size("folder", len(m.Folder), 32), atMost("knowledge", len(m.Knowledge), maxVV))
}

func (m *Ack) check() error {
	return firstError(size("folder", len(m.Folder), 32), atMost("knowledge", len(m.Knowledge), maxVV),
		atMost("has", len(m.Has), maxVV))
}

func (m *MemberOps) check() error {
	return firstError(size("folder", len(m.Folder), 32), ops(m.Ops))
}

func (m *MemberWant) check() error {
	return firstError(size("folder", len(m.Folder), 32), hashes("heads", m.Heads, MaxHeads))
}

func (m *Presence) check() error { return firstError(addrs(m.Addrs), seen(m.Seen)) }

func (m *Ping) check() error { return nil }

func (m *Pong) check() error { return nil }

func (m *Close) check() error { return text("text", m.Text, MaxText) }

func (m *Knock) check() error {
	err := firstError(size("folder", len(m.Folder), 32), text("label", m.Label, MaxText), ops(m.Ops))
	if err == nil && len(m.Ops) == 0 {
		err = firstError(size("invite", len(m.Invite), 32), size("proof", len(m.Proof), 64))
	}
	return err
}

func (m *Answer) check() error {
	err := firstError(text("name", m.Name, MaxText), atMost("ops", int(m.Ops), 1024), seen(m.Members))
	if err == nil && m.Code == uint32(OK) && len(m.IdKey)+len(m.ChunkSeed) > 0 {
		err = firstError(size("id key", len(m.IdKey), 32), size("chunk seed", len(m.ChunkSeed), 32))
	}
	return err
}

// Code is how a knock or a session ended.
type Code uint32

const (
	OK       Code = 1
	Refused  Code = 2 // and nothing more is said to strangers
	Used     Code = 3
	Expired  Code = 4
	Revoked  Code = 5
	Busy     Code = 6
	Shutdown Code = 7
	Protocol Code = 8
	Newer    Code = 9 // one of the two needs a newer clachan
)
