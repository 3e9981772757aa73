package main

import (
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
)

// pathKey is the key of attributes that name files.
const pathKey = "path"

// hidden stands for a name of a file.
const hidden = "…"

// nameless is an attribute without names of files; an empty one if it is nothing but one.
func nameless(a slog.Attr) slog.Attr {
	if a.Key == pathKey {
		return slog.Attr{}
	}
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindGroup:
		var kept []slog.Attr
		for _, b := range v.Group() {
			kept = append(kept, nameless(b))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(kept...)}
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return slog.String(a.Key, withoutNames(err))
		}
	}
	return a
}

// withoutNames is the text of an error without the names that errors of files in it tell.
func withoutNames(err error) string {
	text := err.Error()
	for _, e := range within(err) {
		before, after := e.Error(), ""
		switch e := e.(type) {
		case *fs.PathError:
			after = e.Op + " " + hidden + ": " + withoutNames(e.Err)
		case *os.LinkError:
			after = e.Op + " " + hidden + " " + hidden + ": " + withoutNames(e.Err)
		case *exec.Error:
			after = hidden + ": " + withoutNames(e.Err)
		case interface{ Nameless() string }:
			after = e.Nameless()
		default:
			if after = withoutNames(e); after == before {
				continue
			}
		}
		if !strings.Contains(text, before) { // it is told in other words
			return after
		}
		text = strings.ReplaceAll(text, before, after)
	}
	return text
}

// within are err itself if it names files, or else those it wraps.
func within(err error) []error {
	switch e := err.(type) {
	case *fs.PathError, *os.LinkError, *exec.Error, interface{ Nameless() string }:
		return []error{err}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	}
	return nil
}
