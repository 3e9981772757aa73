package main

import (
	"encoding/json"
	"strconv"
)

// raw is bytes that need not be text: it is written quoted.
type raw string

func (r raw) MarshalText() ([]byte, error) { return []byte(strconv.QuoteToASCII(string(r))), nil }

func (r *raw) UnmarshalText(b []byte) error {
	s, err := strconv.Unquote(string(b))
	*r = raw(s)
	return err
}

// slots is how many descriptors are kept.
const slots = 8

// call is one system call with all that it takes to make it again.
type call struct {
	Op    string
	Who   int    `json:",omitempty"` // in users
	Umask uint32 `json:",omitempty"`
	At    int    `json:",omitempty"` // slot+1 of the directory that paths begin at; 0 is the top
	Path  raw    `json:",omitempty"`
	Path2 raw    `json:",omitempty"`
	S     int    `json:",omitempty"` // slots
	T     int    `json:",omitempty"`
	Flags int    `json:",omitempty"`
	Mode  uint32 `json:",omitempty"`
	UID   int    `json:",omitempty"`
	GID   int    `json:",omitempty"`
	Off   int64  `json:",omitempty"`
	Off2  int64  `json:",omitempty"`
	Len   int64  `json:",omitempty"`
	Fill  byte   `json:",omitempty"`
	Name  raw    `json:",omitempty"` // of an attribute
	Val   raw    `json:",omitempty"` // of an attribute, or the target of a link
	Times [2]ts  `json:",omitzero"`
}

// ts is a time as utimensat takes it.
type ts struct{ Sec, Nsec int64 }

func (c *call) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// user is whom calls are made as: effective ids, and the groups beside.
type user struct {
	uid, gid int
	groups   []uint32
}

// users share some groups and not others.
var users = []user{
	{0, 0, nil},
	{1001, 1001, []uint32{1001, 2001}},
	{1002, 1002, []uint32{2001, 2002}},
	{1003, 1003, nil},
}
