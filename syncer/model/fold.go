package model

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	lettercase "golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The name policies of folders: which names of one directory are the same.
// All members of a folder have the policy it was founded with, for good.
const (
	NamesBytes    = "bytes"    // none are: the default, also for ""
	NamesPortable = "portable" // those that differ in case or Unicode form only
)

// ErrNames means a name policy that is not known here, or not the folder's.
var ErrNames = errors.New("name policy")

// FoldOf returns how a policy compares names.
func FoldOf(policy string) (Fold, error) {
	switch policy {
	case "", NamesBytes:
		return Bytes, nil
	case NamesPortable:
		return Portable, nil
	}
	return nil, fmt.Errorf("%w %q is not known here: update Clachan", ErrNames, policy)
}

// Portable makes one of names that differ in case or in Unicode form only, as
// the file systems of other machines do. Names that are not valid UTF-8 differ
// in their bytes. What Unicode has assigned it never folds otherwise; what it
// assigns later may fold, so a change of its version is one of the policy.
func Portable(s string) string {
	if ascii(s) {
		return strings.ToLower(s)
	}
	if !utf8.ValidString(s) {
		return s
	}
	return norm.NFC.String(strings.Map(cherokee, lettercase.Fold().String(norm.NFD.String(s))))
}

// cherokee gives the letters of Cherokee the case that Unicode folds them to,
// capitals: Fold exchanges the two.
func cherokee(r rune) rune {
	switch {
	case r >= 0xab70 && r <= 0xabbf:
		return r - 0xab70 + 0x13a0
	case r >= 0x13f8 && r <= 0x13fd:
		return r - 8
	}
	return r
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
