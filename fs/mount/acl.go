package mount

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/clachanfs/clachan/syncer"
)

// Attributes that hold POSIX ACLs, in the format of the kernel: version 2, then (tag, permissions, id) each.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	aclVersion = 2
	aclEntry   = 8
	aclMax     = 1024 // entries
)

// Tags of ACL entries.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

type ace struct {
	tag, perm uint16
	id        uint32
}

// acl is the entries of an ACL, sorted as the kernel has them.
type acl []ace

func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || (len(b)-4)%aclEntry != 0 || len(b) > 4+aclMax*aclEntry || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, syncer.ErrInvalid
	}
	var a acl
	seen := map[uint16]int{}
	for b = b[4:]; len(b) > 0; b = b[aclEntry:] {
		e := ace{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
		if e.perm > 7 || len(a) > 0 && e.tag < a[len(a)-1].tag {
			return nil, syncer.ErrInvalid
		}
		seen[e.tag]++
		a = append(a, e)
	}
	named := seen[aclUser]+seen[aclGroup] > 0
	if seen[aclUserObj] != 1 || seen[aclGroupObj] != 1 || seen[aclOther] != 1 || seen[aclMask] > 1 || named && seen[aclMask] == 0 {
		return nil, syncer.ErrInvalid
	}
	for tag := range seen {
		switch tag {
		case aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther:
		default:
			return nil, syncer.ErrInvalid
		}
	}
	return a, nil
}

func (a acl) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// more says that the ACL is more than mode bits.
func (a acl) more() bool { return len(a) > 3 }

// class returns the entries that the owner, group and other bits of a mode stand for.
func (a acl) class() (user, group, other *ace) {
	for i := range a {
		switch e := &a[i]; e.tag {
		case aclUserObj:
			user = e
		case aclGroupObj:
			if group == nil {
				group = e
			}
		case aclMask:
			group = e
		case aclOther:
			other = e
		}
	}
	return user, group, other
}

// mode returns the permission bits that the ACL shows.
func (a acl) mode() uint32 {
	u, g, o := a.class()
	return uint32(u.perm)<<6 | uint32(g.perm)<<3 | uint32(o.perm)
}

// chmod sets the entries that mode bits stand for.
func (a acl) chmod(mode uint32) {
	u, g, o := a.class()
	u.perm, g.perm, o.perm = uint16(mode>>6&7), uint16(mode>>3&7), uint16(mode&7)
}

// inherit makes the access ACL and the mode of something new in a directory with this default ACL.
func (a acl) inherit(mode uint32) (child acl, bits uint32, more bool) {
	child = append(acl(nil), a...)
	both := child.mode() & mode & 0o777
	child.chmod(both)
	return child, mode&^0o777 | both, child.more()
}

// setAccessACL stores an access ACL, and the mode that goes with it.
func (m *Mount) setAccessACL(ino syncer.Ino, data []byte, killSgid bool) error {
	a, err := parseACL(data)
	if err != nil {
		return err
	}
	row, err := m.folder.Attr(ino)
	if err != nil {
		return err
	}
	mode := row.Mode&^0o777 | a.mode()
	if killSgid {
		mode &^= modeSgid
	}
	if !a.more() {
		data = nil // the mode says it all
	}
	set := syncer.Set{Xattrs: map[string][]byte{aclAccess: data}}
	if mode != row.Mode {
		set.Mode = &mode
	} else if was, err := m.accessACL(ino); err == nil && bytes.Equal(was, data) || errors.Is(err, syncer.ErrNoAttr) && data == nil {
		return nil
	}
	_, err = m.folder.SetAttr(ino, set)
	m.note.inode(ino, true)
	return err
}

// accessACL is the access ACL of an inode. What stands for mode bits in it is as they are: chmod changes them alone,
// also that of others, who have no ACL.
func (m *Mount) accessACL(ino syncer.Ino) ([]byte, error) {
	raw, err := m.folder.Getxattr(ino, aclAccess)
	if err != nil {
		return nil, err
	}
	row, err := m.folder.Attr(ino)
	if err != nil {
		return nil, err
	}
	a, err := parseACL(raw)
	if err != nil {
		return raw, nil
	}
	a.chmod(row.Mode)
	return a.bytes(), nil
}
