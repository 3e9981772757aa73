package plain

import (
	"io"
	"os"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"golang.org/x/sys/unix"
)

// IgnoreFile says what of a directory, and of what is below it, is not taken in, in the
// syntax of gitignore(5). As with git, what is in the folder already goes on to be
// synced: a pattern keeps things out, it removes nothing. The file is one of the folder.
const IgnoreFile = ".clachanignore"

const maxIgnore = 1 << 20 // bytes that are read of one

// ignores are the patterns that hold in a directory, those of the top first.
type ignores []gitignore.Pattern

// with adds the patterns of a directory, which is open.
func (g ignores) with(fd int, dir string) (ignores, error) {
	at, err := unix.Openat(fd, IgnoreFile, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == unix.ENOENT || err == unix.ELOOP {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	f := os.NewFile(uintptr(at), IgnoreFile)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIgnore))
	if err != nil {
		return g, err
	}
	out := append(ignores{}, g...)
	domain := split(dir)
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' || strings.TrimSpace(line) == "" {
			continue
		}
		out = append(out, gitignore.ParsePattern(line, domain))
	}
	return out, nil
}

// match tells whether a path is ignored.
func (g ignores) match(path string, dir bool) bool {
	return len(g) > 0 && gitignore.NewMatcher(g).Match(split(path), dir)
}

func split(path string) []string {
	if path == "" || path == "." {
		return nil
	}
	return strings.Split(path, "/")
}
