package main

import (
	"fmt"
	"io"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
)

// memberLines shows the members, those who are there first.
func memberLines(peers []control.PeerStatus, now time.Time) (out []line) {
	away := 0
	var rows []line
	for _, online := range []bool{true, false} {
		for _, p := range peers {
			switch {
			case p.Online != online:
			case !online && len(peers) > manyPeers:
				away++
			default:
				rows = append(rows, memberLine(p, now))
			}
		}
	}
	columns(rows)
	out = append(out, rows...)
	if away > 0 {
		out = append(out, line{{count(uint64(away), "member is", "members are") + " offline (see: clachan peers)", dim}})
	}
	return out
}

func memberLine(p control.PeerStatus, now time.Time) line {
	state, how := cell{"offline", yellow}, absence(p, now)
	if p.Online {
		state, how = cell{"online", green}, pathWords(p)
	}
	l := line{{legible(p.Name), strong}, state, {how, unpainted}}
	if p.SentBytes > 0 || p.ReceivedBytes > 0 {
		l = append(l, cell{"sent " + humanize.IBytes(p.SentBytes), unpainted}, cell{"received " + humanize.IBytes(p.ReceivedBytes), unpainted})
	}
	return l
}

// absence says since when a member is away, or why.
func absence(p control.PeerStatus, now time.Time) string {
	switch {
	case p.Error != "":
		return p.Error
	case p.LastSeen == nil:
		return "never seen from here"
	}
	return "last seen " + humanize.RelTime(*p.LastSeen, now, "ago", "from now")
}

// pathWords is how a member is connected.
func pathWords(p control.PeerStatus) string {
	s := ""
	if p.Path != nil {
		s = *p.Path
	}
	if p.RTT != nil {
		s += fmt.Sprintf(" %.3g ms", *p.RTT)
	}
	if p.Transport != nil {
		s += " " + *p.Transport
	}
	return s
}

// writePeers writes members with their ids in columns for w, a tabwriter.
func writePeers(w io.Writer, peers []control.PeerStatus) {
	now := time.Now()
	for _, p := range peers {
		state := "offline, " + absence(p, now)
		if p.Online {
			state = "online " + pathWords(p)
		}
		fmt.Fprintf(w, "%s\t%s\t%s sent\t%s received\t%s\n", legible(p.Name), state,
			humanize.IBytes(p.SentBytes), humanize.IBytes(p.ReceivedBytes), p.ID)
	}
}
