package model

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

// Ids are derived, so that replicas that do the same thing make one node.

// BirthID is the id of the n-th node made under that name: two replicas that
// create the same name create one node.
func BirthID(parent ID, fold string, k Kind, n int) ID {
	return derive("birth", k, parent[:], []byte(fold), uint64(k), uint64(n))
}

// ForkID is the id of the node that a concurrent version of a node becomes.
func ForkID(id ID, orig Dot) ID {
	return derive("fork", id.Kind(), id[:], nil, uint64(orig.Replica), orig.Seq)
}

// LinkKey is the key of a further name of a node.
func LinkKey(parent ID, fold string, n int) uint64 {
	id := derive("link", File, parent[:], []byte(fold), 0, uint64(n))
	return max(binary.BigEndian.Uint64(id[:]), 1)
}

func derive(tag string, k Kind, id, name []byte, x, y uint64) (out ID) {
	b := append([]byte("clachan "+tag+"\x00"), id...)
	b = binary.BigEndian.AppendUint64(b, x)
	b = binary.BigEndian.AppendUint64(b, y)
	h := blake3.Sum256(append(b, name...))
	copy(out[:], h[:])
	out[15] = out[15]&^3 | byte(k)
	if out.IsZero() || out == RootID {
		out[0] = 0xff
	}
	return out
}

// Reserved is a name of the root that no node has: what is under it is made up by
// each machine.
const Reserved = ".clachan"

// maxName is the longest name in bytes; tests lower it.
var maxName = 255

// ConflictMark stands in the name of every conflict copy.
const ConflictMark = " (conflict, "

// ConflictName is the name of what lost, derived from the loser alone. n is the
// number of "~" that tell equal names apart, written as a number if there are many:
// they stand before the extension, so that the copy opens as what it is, and a long
// stem makes room.
func ConflictName(base string, by Label, utc int64, n int) string {
	stem, ext := splitExt(base)
	tildes := fmt.Sprintf("~%d", n)
	if n <= 3 {
		tildes = strings.Repeat("~", n)
	}
	tail := fmt.Sprintf(ConflictMark+"%s, %s, %s)%s", by.Author, by.Device,
		time.Unix(utc, 0).UTC().Format("2006-01-02 15.04.05"), tildes)
	for len(stem) > 1 && len(stem)+len(tail)+len(ext) > maxName {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + tail + ext
}

// splitExt cuts a short extension off; a leading dot begins a stem.
func splitExt(name string) (stem, ext string) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 || len(name)-i > 16 {
		return name, ""
	}
	return name[:i], name[i:]
}

// CleanLabel makes a display name fit for a Label.
func CleanLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '_'
		}
		return r
	}, s)
	for len(s) > MaxLabel {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
