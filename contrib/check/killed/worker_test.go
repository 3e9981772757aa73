package main

import "testing"

func TestWhatACrashMayLeave(t *testing.T) {
	img := func(s string) *image { return &image{[]byte(s)} }
	for _, tt := range []struct {
		what   string
		images []*image
		torn   bool
		left   *image
		ok     bool
	}{
		{"what was acknowledged", []*image{img("old"), img("new")}, false, img("old"), true},
		{"what was written since", []*image{img("old"), img("new")}, false, img("new"), true},
		{"a part of what was written since", []*image{img("old"), img("new")}, false, img("ned"), true},
		{"bytes of before", []*image{img("new")}, false, img("old"), false},
		{"a size of before", []*image{img("newer")}, false, img("new"), false},
		{"grown, not written", []*image{img("a"), img("abc")}, false, img("a\x00\x00"), true},
		{"grown by something else", []*image{img("a"), img("abc")}, false, img("axx"), false},
		{"half of a write", []*image{img("a"), img("abc")}, false, img("ab"), false},
		{"half of a write that was under way", []*image{img("a"), img("abc")}, true, img("ab"), true},
		{"half of one before", []*image{img("a"), img("abc"), img("abcde")}, true, img("ab"), false},
		{"nothing", []*image{img("a"), img("b")}, false, nil, false},
		{"nothing after a removal", []*image{img("a"), nil}, false, nil, true},
		{"something after an acknowledged removal", []*image{nil}, false, img("a"), false},
	} {
		if err := (&slot{images: tt.images, torn: tt.torn}).allows(tt.left); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}
