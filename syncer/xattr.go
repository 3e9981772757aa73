package syncer

import (
	"errors"
	"slices"
	"strings"

	"github.com/clachanfs/clachan/syncer/index"
	"github.com/clachanfs/clachan/syncer/model"
)

// Flags of Setxattr.
const (
	XattrCreate  = 1
	XattrReplace = 2
)

const maxXattrs = 64 << 10 // of one file, names and values

// Getxattr returns an extended attribute.
func (f *Folder) Getxattr(ino Ino, name string) ([]byte, error) {
	v, err := f.ix.Xattr(ino, name)
	if errors.Is(err, index.ErrNotFound) {
		return nil, ErrNoAttr
	}
	return v, err
}

// Listxattr returns the names of all extended attributes.
func (f *Folder) Listxattr(ino Ino) ([]string, error) {
	var names []string
	err := f.ix.Xattrs(ino, func(name string, _ []byte) bool {
		names = append(names, name)
		return true
	})
	return names, err
}

// Setxattr sets an extended attribute. Those of user.* reach the peers.
func (f *Folder) Setxattr(ino Ino, name string, val []byte, flags uint32) error {
	if len(name) > 255 || name == "" {
		return ErrInvalid
	}
	return f.xattr(ino, name, func(old map[string][]byte) ([]byte, error) {
		_, there := old[name]
		switch {
		case flags&XattrCreate != 0 && there:
			return nil, ErrExist
		case flags&XattrReplace != 0 && !there:
			return nil, ErrNoAttr
		case len(val) > maxXattrs:
			return nil, ErrTooBig
		}
		val = append([]byte{}, val...) // never nil
		return val, xattrsFit(old, map[string][]byte{name: val})
	})
}

// Removexattr removes an extended attribute.
func (f *Folder) Removexattr(ino Ino, name string) error {
	return f.xattr(ino, name, func(old map[string][]byte) ([]byte, error) {
		if _, there := old[name]; !there {
			return nil, ErrNoAttr
		}
		return nil, nil
	})
}

// xattrsFit says why a file with the extended attributes old cannot have those of set
// too; nil is one that goes.
func xattrsFit(old, set map[string][]byte) error {
	size, n := 0, 0
	for k, v := range old {
		if _, over := set[k]; !over {
			size += len(k) + 1 + len(v) // 1: as listxattr shows it
			n++
		}
	}
	for k, v := range set {
		if v != nil {
			size += len(k) + 1 + len(v)
			n++
		}
	}
	if size > maxXattrs || n > model.MaxAttrs {
		return ErrNoSpace
	}
	return nil
}

// setLocal sets or removes extended attributes that stay on this machine.
func setLocal(t *index.Tx, ino Ino, xattrs map[string][]byte) {
	for name, val := range xattrs {
		t.SetXattr(ino, name, val)
	}
}

func (f *Folder) xattr(ino Ino, name string, set func(old map[string][]byte) ([]byte, error)) error {
	var dir Ino
	err := f.change(func(t *index.Tx) error {
		r := t.Inode(ino)
		if r == nil {
			return ErrNotExist
		}
		old := t.Xattrs(ino)
		val, err := set(old)
		if err != nil {
			return err
		}
		if was, there := old[name]; there && val != nil && slices.Equal(was, val) {
			return nil
		}
		t.SetXattr(ino, name, val)
		r.Ctime = f.o.Now().UnixNano()
		t.Changed(ino)
		if strings.HasPrefix(name, "user.") && r.Kind.Replicates() {
			w, drift := t.Bytes(ino)
			if drift && !w.Ours {
				w = index.Bytes{}
			}
			w.Set(model.XattrTag + name)
			f.own(t, ino, w)
			dir = groupOf(ino, r)
		}
		return t.Err()
	})
	if err == nil && dir != 0 {
		f.noted(dir, "", false)
	}
	return err
}
