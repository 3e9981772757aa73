package daemon

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

func TestFolderNames(t *testing.T) {
	tests := []struct {
		name string
		ok   bool
	}{
		{"Photos", true}, {"a", true}, {"Fotos 2026", true}, {"Écran", true}, {strings.Repeat("x", 64), true}, {"a.b-c", true},
		{"", false}, {strings.Repeat("x", 65), false}, {strings.Repeat("é", 33), false}, {".hidden", false}, {"-o", false},
		{"a/b", false}, {"a:b", false}, {"a\nb", false}, {"a\x7fb", false}, {"a\x00", false}, {"\xff", false},
	}
	for _, tt := range tests {
		err := checkName(tt.name)
		if (err == nil) != tt.ok || (err != nil && Code(err) != control.Usage) {
			t.Errorf("%q: %v", tt.name, err)
		}
	}
}

func TestTakenNameGetsANumber(t *testing.T) {
	long, wide := strings.Repeat("x", 64), strings.Repeat("é", 32)
	taken := []string{"a", "b", "b-2", "b-3", long, wide}
	tests := []struct{ name, want string }{
		{"c", "c"}, {"a", "a-2"}, {"b", "b-4"}, {long, long[:62] + "-2"}, {wide, strings.Repeat("é", 31) + "-2"},
	}
	for _, tt := range tests {
		got := freeName(tt.name, func(s string) bool { return slices.Contains(taken, s) })
		if got != tt.want || checkName(got) != nil || !utf8.ValidString(got) {
			t.Errorf("%q became %q, want %q", tt.name, got, tt.want)
		}
	}
}
