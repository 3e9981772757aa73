package mount

import "github.com/hanwen/go-fuse/v2/fuse"

// counted is a Mount as the kernel sees it: what it asks for is counted.
type counted struct{ *Mount }

func (c counted) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer c.ops.end(opLookup, c.ops.begin(opLookup))
	return c.Mount.Lookup(cancel, h, name, out)
}

func (c counted) Forget(nodeid, nlookup uint64) {
	defer c.ops.end(opForget, c.ops.begin(opForget))
	c.Mount.Forget(nodeid, nlookup)
}

func (c counted) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer c.ops.end(opGetAttr, c.ops.begin(opGetAttr))
	return c.Mount.GetAttr(cancel, in, out)
}

func (c counted) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	defer c.ops.end(opGetAttr, c.ops.begin(opGetAttr))
	return c.Mount.Statx(cancel, in, out)
}

func (c counted) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer c.ops.end(opSetAttr, c.ops.begin(opSetAttr))
	return c.Mount.SetAttr(cancel, in, out)
}

func (c counted) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	defer c.ops.end(opMknod, c.ops.begin(opMknod))
	return c.Mount.Mknod(cancel, in, name, out)
}

func (c counted) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	defer c.ops.end(opMkdir, c.ops.begin(opMkdir))
	return c.Mount.Mkdir(cancel, in, name, out)
}

func (c counted) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	defer c.ops.end(opSymlink, c.ops.begin(opSymlink))
	return c.Mount.Symlink(cancel, h, target, name, out)
}

func (c counted) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	defer c.ops.end(opLink, c.ops.begin(opLink))
	return c.Mount.Link(cancel, in, name, out)
}

func (c counted) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	defer c.ops.end(opUnlink, c.ops.begin(opUnlink))
	return c.Mount.Unlink(cancel, h, name)
}

func (c counted) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	defer c.ops.end(opRmdir, c.ops.begin(opRmdir))
	return c.Mount.Rmdir(cancel, h, name)
}

func (c counted) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	defer c.ops.end(opRename, c.ops.begin(opRename))
	return c.Mount.Rename(cancel, in, oldName, newName)
}

func (c counted) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	defer c.ops.end(opReadlink, c.ops.begin(opReadlink))
	return c.Mount.Readlink(cancel, h)
}

func (c counted) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	defer c.ops.end(opCreate, c.ops.begin(opCreate))
	return c.Mount.Create(cancel, in, name, out)
}

func (c counted) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	defer c.ops.end(opCreate, c.ops.begin(opCreate))
	return c.Mount.Tmpfile(cancel, in, out)
}

func (c counted) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	defer c.ops.end(opOpen, c.ops.begin(opOpen))
	return c.Mount.Open(cancel, in, out)
}

func (c counted) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	defer c.ops.end(opRead, c.ops.begin(opRead))
	return c.Mount.Read(cancel, in, buf)
}

func (c counted) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	defer c.ops.end(opWrite, c.ops.begin(opWrite))
	return c.Mount.Write(cancel, in, data)
}

func (c counted) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	defer c.ops.end(opFlush, c.ops.begin(opFlush))
	return c.Mount.Flush(cancel, in)
}

func (c counted) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	defer c.ops.end(opFsync, c.ops.begin(opFsync))
	return c.Mount.Fsync(cancel, in)
}

func (c counted) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	defer c.ops.end(opRelease, c.ops.begin(opRelease))
	c.Mount.Release(cancel, in)
}

func (c counted) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer c.ops.end(opReadDir, c.ops.begin(opReadDir))
	return c.Mount.ReadDir(cancel, in, out)
}

func (c counted) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer c.ops.end(opReadDir, c.ops.begin(opReadDir))
	return c.Mount.ReadDirPlus(cancel, in, out)
}

func (c counted) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	defer c.ops.end(opXattr, c.ops.begin(opXattr))
	return c.Mount.GetXAttr(cancel, h, name, dest)
}

func (c counted) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	defer c.ops.end(opXattr, c.ops.begin(opXattr))
	return c.Mount.ListXAttr(cancel, h, dest)
}

func (c counted) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	defer c.ops.end(opXattr, c.ops.begin(opXattr))
	return c.Mount.SetXAttr(cancel, in, name, data)
}

func (c counted) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	defer c.ops.end(opXattr, c.ops.begin(opXattr))
	return c.Mount.RemoveXAttr(cancel, h, name)
}

func (c counted) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	defer c.ops.end(opCopy, c.ops.begin(opCopy))
	return c.Mount.CopyFileRange(cancel, in)
}

func (c counted) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	defer c.ops.end(opOther, c.ops.begin(opOther))
	return c.Mount.Lseek(cancel, in, out)
}

func (c counted) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	defer c.ops.end(opOther, c.ops.begin(opOther))
	return c.Mount.Fallocate(cancel, in)
}

func (c counted) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	defer c.ops.end(opOther, c.ops.begin(opOther))
	return c.Mount.StatFs(cancel, h, out)
}

func (c counted) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	defer c.ops.end(opOther, c.ops.begin(opOther))
	return c.Mount.OpenDir(cancel, in, out)
}

func (c counted) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	defer c.ops.end(opFsync, c.ops.begin(opFsync))
	return c.Mount.FsyncDir(cancel, in)
}
