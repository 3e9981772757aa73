package model

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	lettercase "golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

func TestPortableMakesOneOfNamesThatOthersCannotTellApart(t *testing.T) {
	for _, x := range []struct {
		a, b string
		same bool
	}{
		{"TESTFILE", "testfile", true},
		{"caf\u00e9", "cafe\u0301", true},
		{"CAFE\u0301", "caf\u00e9", true},
		{"Stra\u00dfe", "STRASSE", true},
		{"\u212b", "\u00e5", true},             // ångström sign
		{"\u03a3\u03c2", "\u03c3\u03c3", true}, // sigmas
		{"e\u0323\u0301", "e\u0301\u0323", true},
		{"\ufb01le", "FILE", true},
		{"cafe", "caf\u00e9", false},
		{"a", "b", false},
		{"a", "a ", false},
		{"I", "\u0131", false},     // dotless, as outside Turkey
		{"\u13e9", "\uabb9", true}, // Cherokee
		{"\u13f0", "\u13f8", true},
		{"2", "\u00b2", false},    // compatible is not the same
		{"A\xff", "a\xff", false}, // not UTF-8
	} {
		if got := Portable(x.a) == Portable(x.b); got != x.same {
			t.Errorf("%q and %q: same is %v", x.a, x.b, got)
		}
	}
}

func TestPortableFoldsWhatIsFoldedToItself(t *testing.T) {
	for page := rune(0); page <= utf8.MaxRune; page += 64 {
		var all, marked strings.Builder
		for r := page; r < page+64; r++ {
			if utf8.ValidRune(r) {
				all.WriteString(string(r) + "-")
				marked.WriteString("\u03b1\u0301\u0345" + string(r) + "\u0345\u0323")
			}
		}
		idempotent(t, all.String())
		if page < 0x20000 { // what comes after has no case and no marks
			idempotent(t, marked.String())
		}
	}
}

// Another version of Unicode folds names otherwise: members that have it see
// other collisions than those that have not, so it takes another policy.
func TestPortableKeepsItsVersionOfUnicode(t *testing.T) {
	if lettercase.UnicodeVersion != unicodeVersion || norm.Version != unicodeVersion {
		t.Errorf("Unicode is %s and %s, was %s", lettercase.UnicodeVersion, norm.Version, unicodeVersion)
	}
}

const unicodeVersion = "15.0.0"

func idempotent(t *testing.T, s string) {
	t.Helper()
	once := Portable(s)
	if twice := Portable(once); twice != once {
		t.Errorf("%+q folds to %+q, that to %+q", s, once, twice)
	}
}

func FuzzPortable(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		idempotent(t, s)
		if !utf8.ValidString(s) {
			if Portable(s) != s {
				t.Errorf("%q is not UTF-8, but folds to %q", s, Portable(s))
			}
			return
		}
		for _, form := range []norm.Form{norm.NFC, norm.NFD} {
			if x := form.String(s); Portable(x) != Portable(s) {
				t.Errorf("%+q folds to %+q, its other form to %+q", s, Portable(s), Portable(x))
			}
		}
		if x := lettercase.Fold().String(norm.NFD.String(s)); Portable(x) != Portable(s) {
			t.Errorf("%+q folds to %+q, in other case to %+q", s, Portable(s), Portable(x))
		}
	})
}

func TestAnUnknownPolicyAsksForAnUpdate(t *testing.T) {
	if _, err := FoldOf("windows"); !errors.Is(err, ErrNames) {
		t.Errorf("got %v", err)
	}
}

// A journal is one in any spelling that the folder's policy makes the same.
func TestJournalsAreFoundInAnySpelling(t *testing.T) {
	for _, tt := range []struct {
		name         string
		fold         Fold
		base, suffix string
	}{
		{"x.db-wal", Bytes, "x.db", "-wal"},
		{"X.DB-WAL", Bytes, "X.DB-WAL", ""},
		{"X.DB-WAL", Portable, "X.DB", "-WAL"},
		{"\u00c9-Journal", Portable, "\u00c9", "-Journal"},
		{"-wal", Portable, "-wal", ""},
		{"x-wal-journal", Bytes, "x-wal-journal", ""},
		{"x-wal-journal-wal", Bytes, "x-wal-journal", "-wal"},
		{"x", Portable, "x", ""},
	} {
		if base, suffix := journal(tt.name, tt.fold); base != tt.base || suffix != tt.suffix {
			t.Errorf("%q: %q and %q", tt.name, base, suffix)
		}
	}
}
