package mount

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/fs/staging"
	"github.com/clachanfs/clachan/syncer"
)

const enametoolong = fuse.Status(syscall.ENAMETOOLONG)

// errnos is what each error means to a program. The first that fits counts.
var errnos = []struct {
	err  error
	code syscall.Errno
}{
	{syncer.ErrNotExist, syscall.ENOENT},
	{syncer.ErrExist, syscall.EEXIST},
	{syncer.ErrNotDir, syscall.ENOTDIR},
	{syncer.ErrIsDir, syscall.EISDIR},
	{syncer.ErrNotEmpty, syscall.ENOTEMPTY},
	{syncer.ErrInvalid, syscall.EINVAL},
	{syncer.ErrPerm, syscall.EPERM},
	{syncer.ErrReadOnly, syscall.EROFS},
	{syncer.ErrNameTooLong, syscall.ENAMETOOLONG},
	{syncer.ErrNoAttr, syscall.ENODATA},
	{syncer.ErrTooBig, syscall.E2BIG},
	{syncer.ErrLinks, syscall.EMLINK},
	{syncer.ErrNoSpace, syscall.ENOSPC},
	{syncer.ErrStale, syscall.ESTALE},
	{syncer.ErrFull, syscall.ENOSPC},
	{syncer.ErrClosed, syscall.EIO},
	{syncer.ErrBug, syscall.EIO},
	{syncer.ErrOffline, syscall.EIO},
	{blocks.ErrFull, syscall.ENOSPC},
	{staging.ErrTooBig, syscall.EFBIG},
	{errClosing, syscall.EROFS},
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.EIO},
}

// quiet are the codes that are everyday answers: not worth a line in the log.
var quiet = map[syscall.Errno]bool{
	syscall.ENOENT: true, syscall.EEXIST: true, syscall.ENOTDIR: true, syscall.EISDIR: true, syscall.ENOTEMPTY: true,
	syscall.EINVAL: true, syscall.EPERM: true, syscall.EROFS: true, syscall.ENAMETOOLONG: true, syscall.ENODATA: true,
	syscall.E2BIG: true, syscall.ESTALE: true, syscall.ENOSPC: true, syscall.EFBIG: true, syscall.EINTR: true,
	syscall.ERANGE: true, syscall.EMLINK: true, syscall.EDQUOT: true,
}

// code returns the errno for err.
func code(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	var no syscall.Errno
	if errors.As(err, &no) && no != 0 {
		return no
	}
	return syscall.EIO
}

// status turns the error of an operation into its answer. What a program did not cause is logged.
func (m *Mount) status(op string, ino syncer.Ino, err error) fuse.Status {
	no := code(err)
	if no != 0 && !quiet[no] {
		m.log.Error("operation failed", slog.String("op", op), slog.Uint64("inode", uint64(ino)), slog.Any("err", err))
	}
	return fuse.Status(no)
}
