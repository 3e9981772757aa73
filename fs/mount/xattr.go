package mount

import (
	"errors"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/syncer"
)

// spaces are the namespaces of attributes.
var spaces = []string{"user.", "security.", trusted, aclAccess, aclDefault}

const trusted = "trusted."

func attrName(name string) error {
	if len(name) > nameMax {
		return syscall.ERANGE
	}
	for _, s := range spaces {
		if name == s && strings.HasSuffix(s, ".") {
			return syncer.ErrInvalid
		}
		if strings.HasPrefix(name, s) && (strings.HasSuffix(s, ".") || name == s) {
			return nil
		}
	}
	return syscall.EOPNOTSUPP
}

// answer copies a value for a program that asked with a buffer, or asks for the size.
func answer(val, dest []byte) (uint32, fuse.Status) {
	if len(val) > len(dest) {
		return uint32(len(val)), fuse.ERANGE
	}
	return uint32(copy(dest, val)), fuse.OK
}

// GetXAttr implements fuse.RawFileSystem.
func (m *Mount) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	ino := syncer.Ino(h.NodeId)
	var val []byte
	err := attrName(name)
	switch {
	case err != nil:
	case name == aclAccess:
		val, err = m.accessACL(ino)
	default:
		val, err = m.folder.Getxattr(ino, name)
	}
	if err != nil {
		return 0, m.attrStatus("getxattr", ino, err)
	}
	return answer(val, dest)
}

// ListXAttr implements fuse.RawFileSystem.
func (m *Mount) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	ino := syncer.Ino(h.NodeId)
	names, err := m.folder.Listxattr(ino)
	if err != nil {
		return 0, m.attrStatus("listxattr", ino, err)
	}
	var list []byte
	for _, n := range names {
		if h.Uid != 0 && strings.HasPrefix(n, trusted) {
			continue // as the kernel lets nobody else read them
		}
		list = append(append(list, n...), 0)
	}
	return answer(list, dest)
}

// SetXAttr implements fuse.RawFileSystem.
func (m *Mount) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	ino := syncer.Ino(in.NodeId)
	return m.attrStatus("setxattr", ino, m.setXAttr(ino, in, name, data))
}

func (m *Mount) setXAttr(ino syncer.Ino, in *fuse.SetXAttrIn, name string, data []byte) error {
	if m.closing.Load() {
		return errClosing
	}
	if err := attrName(name); err != nil {
		return err
	}
	switch name {
	case aclAccess:
		return m.setAccessACL(ino, data, in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0)
	case aclDefault:
		if _, err := parseACL(data); err != nil {
			return err
		}
	case capability:
		if l := m.table.peek(ino); l != nil {
			l.noCaps.Store(false)
		}
	}
	return m.folder.Setxattr(ino, name, data, in.Flags)
}

// RemoveXAttr implements fuse.RawFileSystem.
func (m *Mount) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	ino := syncer.Ino(h.NodeId)
	err := attrName(name)
	if err == nil && m.closing.Load() {
		err = errClosing
	}
	if err == nil {
		err = m.folder.Removexattr(ino, name)
	}
	if errors.Is(err, syncer.ErrNoAttr) && (name == aclAccess || name == aclDefault) {
		err = nil // an inode without one has the ACL of its mode
	}
	return m.attrStatus("removexattr", ino, err)
}

// attrStatus is status where not supported is an everyday answer too.
func (m *Mount) attrStatus(op string, ino syncer.Ino, err error) fuse.Status {
	if err == syscall.EOPNOTSUPP {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return m.status(op, ino, err)
}
