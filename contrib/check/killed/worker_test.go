package main

import "testing"

func TestWhatACrashMayLeave(t *testing.T) {
	img := func(s string) *image { return &image{[]byte(s)} }
	for _, tt := range []struct {
		what   string
		images []*image
		left   *image
		ok     bool
	}{
		{"what was acknowledged", []*image{img("old"), img("new")}, img("old"), true},
		{"what was written since", []*image{img("old"), img("new")}, img("new"), true},
		{"a part of what was written since", []*image{img("old"), img("new")}, img("ned"), true},
		{"bytes of before", []*image{img("new")}, img("old"), false},
		{"a size of before", []*image{img("newer")}, img("new"), false},
		{"grown, not written", []*image{img("a"), img("abc")}, img("a\x00\x00"), true},
		{"grown by something else", []*image{img("a"), img("abc")}, img("axx"), false},
		{"nothing", []*image{img("a"), img("b")}, nil, false},
		{"nothing after a removal", []*image{img("a"), nil}, nil, true},
		{"something after an acknowledged removal", []*image{nil}, img("a"), false},
	} {
		if err := (&slot{images: tt.images}).allows(tt.left); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}
