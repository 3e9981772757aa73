package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func newStatus(a *app) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the folders, how far they are synced, and who has them",
		Long: `Show the folders of this device, or the one called NAME, and their members.

Exit code 7 when something needs attention (conflicts, errors), but always 0
with --json.`,
		Example: `  clachan status
  clachan status Photos --json
  clachan status --watch`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client(c.Context())
			if err != nil {
				return err
			}
			v := view{app: a, client: cl, folder: arg(args, 0)}
			if watch {
				return v.run(c.Context())
			}
			st, err := v.fetch(c.Context())
			if err != nil {
				return err
			}
			if err := a.print(st, func(w io.Writer) { writeStatus(w, st, time.Now()) }); err != nil || a.json {
				return err
			}
			if needsAttention(st) {
				return &control.Error{Code: control.Attention}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it until interrupted")
	return c
}

func needsAttention(st control.Status) bool {
	for _, f := range st.Folders {
		if f.State == control.StateError || f.Conflicts > 0 {
			return true
		}
	}
	return false
}

// writeStatus writes the status in columns for w, a tabwriter.
func writeStatus(w io.Writer, st control.Status, now time.Time) {
	if len(st.Folders) == 0 {
		fmt.Fprintln(w, "no folders yet (make one with: clachan init NAME --at DIR)")
	}
	for _, f := range st.Folders {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, f.Dir, stateWords(f),
			count(f.Files, "file", "files"), humanize.IBytes(f.Bytes), copiesWords(f.Copies))
	}
	writeScrubs(w, st.Folders, now)
	writeNotices(w, st.Folders, now)
	if len(st.Peers) > 0 {
		fmt.Fprintln(w)
		writePeersAt(w, st.Peers, now)
	}
}

// writeNotices tells what members found out about each other's databases.
func writeNotices(w io.Writer, folders []control.FolderStatus, now time.Time) {
	for _, f := range folders {
		if f.Returning {
			fmt.Fprintf(w, "\n%s begins anew: first comes what others have, then what only this machine has is sent\n", f.Name)
		}
		for _, x := range f.Notices {
			fmt.Fprintf(w, "\n%s, %s: %s\n", f.Name, humanize.RelTime(x.At, now, "ago", "from now"), x.Text)
		}
	}
}

// stateWords says in words what state a folder is in.
func stateWords(f control.FolderStatus) string {
	switch f.State {
	case control.StateError:
		return "error: " + f.Error
	case control.StateConflict:
		return count(f.Conflicts, "conflict", "conflicts")
	case control.StateOffline:
		return "offline"
	case control.StateOnlyHere:
		return count(f.OnlyHere, "file", "files") + " on this machine only"
	case control.StateSyncing:
		have := f.Bytes - min(f.Bytes, f.NeedBytes)
		return fmt.Sprintf("syncing %s %d %%  %s to come", bar(have, f.Bytes), percent(have, f.Bytes), humanize.IBytes(f.NeedBytes))
	case control.StatePending:
		return "saving"
	}
	if !f.Mounted {
		return "up to date, not mounted"
	}
	return "up to date"
}

func copiesWords(c control.Copies) string {
	ok := ""
	if c.Min >= c.Want {
		ok = " ok"
	}
	return fmt.Sprintf("copies %d/%d%s", c.Min, c.Want, ok)
}

func percent(part, whole uint64) uint64 {
	if whole == 0 {
		return 0
	}
	return uint64(float64(part) / float64(whole) * 100)
}

// bar draws how much of whole part is.
func bar(part, whole uint64) string {
	const width = 16
	full := int(percent(part, whole)) * width / 100
	return "▕" + strings.Repeat("█", full) + strings.Repeat("░", width-full) + "▏"
}

func writePeers(w io.Writer, peers []control.PeerStatus) { writePeersAt(w, peers, time.Now()) }

func writePeersAt(w io.Writer, peers []control.PeerStatus, now time.Time) {
	for _, p := range peers {
		state := "offline"
		switch {
		case p.Online:
			state = "online"
			for _, s := range []*string{p.Path, p.Transport} {
				if s != nil {
					state += " " + *s
				}
			}
			if p.RTT != nil {
				state += fmt.Sprintf(" %.3g ms", *p.RTT)
			}
		case p.Error != "":
			state += ": " + p.Error
		case p.LastSeen != nil:
			state += ", last seen " + humanize.RelTime(*p.LastSeen, now, "ago", "from now")
		}
		fmt.Fprintf(w, "%s\t%s\t%s sent\t%s received\t%s\n", p.Name, state,
			humanize.IBytes(p.SentBytes), humanize.IBytes(p.ReceivedBytes), p.ID)
	}
}

// count writes a number with its noun.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}

// statusText is the status as a block of lines.
func statusText(st control.Status, now time.Time) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	writeStatus(w, st, now)
	w.Flush() // into memory: cannot fail
	return b.String()
}
