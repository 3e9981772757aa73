package daemon

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

// maxName bounds the name of a folder, in bytes.
const maxName = 64

// checkName holds the rules for the name of a folder: it is part of paths,
// of NAME:path, and an argument of commands.
func checkName(name string) error {
	bad := ""
	switch {
	case name == "":
		bad = "is empty"
	case len(name) > maxName:
		bad = fmt.Sprintf("has more than %d bytes", maxName)
	case name[0] == '.' || name[0] == '-':
		bad = fmt.Sprintf("begins with %q", name[:1])
	case strings.ContainsAny(name, "/:"):
		bad = "contains '/' or ':'"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		bad = "contains control characters"
	case !utf8.ValidString(name):
		bad = "is not valid UTF-8"
	}
	if bad != "" {
		return control.Errorf(control.Usage, "the folder name %q %s", name, bad)
	}
	return nil
}

// freeName is name, or name-2 and so on where it is taken.
func freeName(name string, taken func(string) bool) string {
	free := name
	for n := 2; taken(free); n++ {
		suffix := fmt.Sprintf("-%d", n)
		free = cut(name, maxName-len(suffix)) + suffix
	}
	return free
}

// cut shortens s to at most n bytes, not amid a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
