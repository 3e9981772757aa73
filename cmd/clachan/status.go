package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
)

func newStatus(a *app) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show the folders, how far they are synced, and who has them",
		Long: `Show the folders of this device, or the one called NAME, and their members: what
is not in sync and why, which files are on this machine only, and who is there.

A folder is up to date; syncing, while bytes are missing here; saving, while
changes are not everywhere known; on this machine only, while nobody else has
a file; offline, where it has members and none is connected; in conflict, where
two versions of a file stand side by side; or it has failed. Copies 2/2 means
that two members hold every file, and that two are wanted.

With --watch it is shown in place until Ctrl-C, or without a terminal again each
time it changes.

Exit code 7 when something needs attention (conflicts, errors, no room on the
disk, or fewer members that are known to hold a folder than are wanted, and
nothing on its way that changes this), but always 0 with --json. A folder that
nobody else is a member of yet has the copies it can have.`,
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
			if a.json {
				return a.print(st, nil)
			}
			if v.moves(st) { // how fast is known from two looks
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-time.After(400 * time.Millisecond):
				}
				if st, err = v.fetch(c.Context()); err != nil {
					return err
				}
			}
			if err := a.write(statusLines(st, time.Now(), a.width())); err != nil {
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
		if f.State == control.StateError || f.Conflicts > 0 || f.Damaged > 0 || f.NoRoom || lacksCopies(f, st.Peers) {
			return true
		}
	}
	return false
}

// lacksCopies tells whether too few members hold a folder, and waiting will not mend it.
func lacksCopies(f control.FolderStatus, peers []control.PeerStatus) bool {
	switch f.State {
	case control.StateOnlyHere, control.StateSyncing, control.StatePending:
		return false // it is on its way
	}
	return f.Copies.Min < f.Copies.Want && len(membersOf(f, peers)) > 0
}

const (
	nameWidth = 16 // a longer name is shown in part
	manyPeers = 12 // of more, those who are away are only counted
)

// statusLines shows a status. Text is wrapped to a width; 0: it is not.
func statusLines(st control.Status, now time.Time, width int) (out []line) {
	if len(st.Folders) == 0 {
		out = append(out, line{{"no folders yet (make one with: clachan init NAME --at DIR)", unpainted}})
	}
	indent := 0
	for _, f := range st.Folders {
		indent = max(indent, min(nameWidth, runewidth.StringWidth(legible(f.Name))))
	}
	var heads []line
	for _, f := range st.Folders {
		heads = append(heads, headLine(f))
	}
	columnsOfIdle(st.Folders, heads)
	for i, f := range st.Folders {
		name := runewidth.FillRight(runewidth.Truncate(legible(f.Name), indent, "…"), indent) + "  "
		out = append(out, append(line{{name, strong}}, heads[i]...))
		below := strings.Repeat(" ", indent+2)
		out = append(out, line{{below + legible(f.Dir), dim}})
		for _, text := range why(f, st.Peers, now) {
			words := []string{text}
			if width > 0 {
				words = wrap(text, width-len(below))
			}
			for _, s := range words {
				out = append(out, line{{below + s, unpainted}})
			}
		}
	}
	if len(st.Peers) > 0 {
		out = append(out, nil)
		out = append(out, memberLines(st.Peers, now)...)
	}
	return out
}

// headLine is the state of a folder: how far it is, or how much it has.
func headLine(f control.FolderStatus) line {
	word := cell{stateWord(f), statePaint(f.State)}
	if f.State == control.StateSyncing {
		return append(line{word, {" ", unpainted}}, syncingCells(f)...)
	}
	copies := cell{fmt.Sprintf("copies %d/%d", f.Copies.Min, f.Copies.Want), yellow}
	if f.Copies.Min >= f.Copies.Want {
		copies = cell{copies.text + " ok", unpainted}
	}
	return line{word, {count(f.Files, "file", "files"), unpainted}, {humanize.IBytes(f.Bytes), unpainted}, copies}
}

// columnsOfIdle puts the folders that do not sync into columns.
func columnsOfIdle(folders []control.FolderStatus, heads []line) {
	var idle []line
	for i, f := range folders {
		if f.State != control.StateSyncing {
			idle = append(idle, heads[i])
		}
	}
	columns(idle)
}

// syncingCells is how far a folder is, how fast, and how long it will take.
func syncingCells(f control.FolderStatus) line {
	have := f.Bytes - min(f.Bytes, f.NeedBytes)
	text := fmt.Sprintf("%s %d %%  %s of %s", bar(have, f.Bytes), percent(have, f.Bytes), humanize.IBytes(have), humanize.IBytes(f.Bytes))
	if f.Rate > 0 {
		text += fmt.Sprintf("  %s/s  %s", humanize.IBytes(f.Rate), about(time.Duration(float64(f.NeedBytes)/float64(f.Rate)*float64(time.Second))))
	}
	return line{{text, unpainted}}
}

// about is a time that nobody knows exactly.
func about(d time.Duration) string {
	switch {
	case d < time.Second:
		return "about 1 s"
	case d < 100*time.Second:
		return fmt.Sprintf("about %.0f s", d.Seconds())
	case d < 100*time.Minute:
		return fmt.Sprintf("about %.0f min", d.Minutes())
	case d < 100*time.Hour:
		return fmt.Sprintf("about %.0f h", d.Hours())
	}
	return "days"
}

// stateWord is a state in words.
func stateWord(f control.FolderStatus) string {
	switch f.State {
	case control.StateError:
		return "error"
	case control.StateConflict:
		return count(f.Conflicts, "conflict", "conflicts")
	case control.StateOnlyHere:
		return "only here"
	case control.StatePending:
		return "saving"
	case control.StateSynced:
		return "up to date"
	}
	return f.State
}

// why says what is not as it should be in a folder, and what to do.
func why(f control.FolderStatus, peers []control.PeerStatus, now time.Time) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	mine := membersOf(f, peers)
	switch f.State {
	case control.StateError:
		say("%s", f.Error)
	case control.StateOffline:
		say("no member is connected: %s", list(absences(mine, now), "; ", 3))
		if f.NeedBytes > 0 {
			say("%s to come from them", humanize.IBytes(f.NeedBytes))
		}
	case control.StateSyncing:
		if len(f.Sources) > 0 {
			say("from %s", list(f.Sources, ", ", 3))
		} else if away := absences(mine, now); len(away) > 0 {
			say("nobody connected has all of it; away: %s", list(away, "; ", 3))
		} else {
			say("nobody connected has all of it yet")
		}
	case control.StatePending:
		if f.Pending > 0 {
			say("%s to be saved: a file that is open is saved when it is closed, or rests", count(f.Pending, "change is", "changes are"))
		} else if len(f.WaitingFor) > 0 {
			say("%s to hear of the last changes", list(f.WaitingFor, ", ", 3)+has(len(f.WaitingFor)))
		}
	}
	if f.Conflicts > 0 {
		say("both versions are kept: the other has \"(conflict, \" in its name; remove or rename what you do not want")
	}
	switch {
	case f.OnlyHere == 0:
	case f.Unheard && f.OnlyHereMore:
		say("nobody has said what it has since the daemon started: what was written here is on this machine only, perhaps")
	case f.Unheard:
		say("nobody has said what it has since the daemon started: %s on this machine only, perhaps", count(f.OnlyHere, "file is", "files are"))
	case f.OnlyHereMore:
		say("%s", onItsWay(f))
	default:
		say("%s on this machine only%s%s", count(f.OnlyHere, "file is", "files are"), onlyHereNames(f), waitingWords(f.WaitingFor))
	}
	if f.Damaged > 0 {
		say("%s damaged here (fetch them from other members with: clachan scrub --repair)", count(f.Damaged, "block is", "blocks are"))
	}
	if f.NoRoom {
		say("the disk is too full for what others write: it comes once there is room")
	}
	if !f.Mounted && f.Error == "" {
		say("not mounted (mount it with: clachan mount %s)", legible(f.Name))
	}
	if len(mine) == 0 && f.State != control.StateError {
		say("nobody else is a member yet (a ticket for one: clachan invite %s)", legible(f.Name))
	}
	if f.Returning {
		say("it begins anew: first comes what others have, then what only this machine has is sent")
	}
	if f.Scrubbed != nil && f.Damaged == 0 {
		say("all blocks verified %s", humanize.RelTime(*f.Scrubbed, now, "ago", "from now"))
	}
	for _, x := range f.Notices {
		say("%s: %s", humanize.RelTime(x.At, now, "ago", "from now"), x.Text)
	}
	return out
}

func has(n int) string {
	if n == 1 {
		return " has"
	}
	return " have"
}

// onItsWay is said of what is only here, but nobody knows how many files that are.
func onItsWay(f control.FolderStatus) string {
	s := "something is still on its way"
	if len(f.WaitingFor) > 0 {
		s += " to " + list(f.WaitingFor, " or ", 3)
	}
	return s + onlyHereNames(f)
}

// onlyHereNames names some of the files that are only here.
func onlyHereNames(f control.FolderStatus) string {
	if len(f.OnlyHerePaths) == 0 {
		return ""
	}
	var names []string
	for _, p := range f.OnlyHerePaths {
		names = append(names, legible(p))
	}
	s := ": " + strings.Join(names, ", ")
	if f.OnlyHereMore {
		return s + ", …"
	}
	if more := f.OnlyHere - min(f.OnlyHere, uint64(len(names))); more > 0 {
		s += fmt.Sprintf(" and %s more", humanize.Comma(int64(more)))
	}
	return s
}

func waitingWords(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (waiting for " + list(names, " or ", 3) + ")"
}

// list joins at most n of the words, and says how many more there are.
func list(words []string, sep string, n int) string {
	if len(words) <= n {
		return strings.Join(words, sep)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:n], sep), len(words)-n)
}

// membersOf are the members of a folder.
func membersOf(f control.FolderStatus, peers []control.PeerStatus) (out []control.PeerStatus) {
	for _, p := range peers {
		for _, id := range p.Folders {
			if id == f.ID {
				out = append(out, p)
			}
		}
	}
	return out
}

// absences says who is away, and since when.
func absences(peers []control.PeerStatus, now time.Time) (out []string) {
	for _, p := range peers {
		if !p.Online {
			out = append(out, p.Name+", "+absence(p, now))
		}
	}
	return out
}

// percent is how much of whole part is: all only if it is all.
func percent(part, whole uint64) uint64 {
	if whole == 0 {
		return 0
	}
	return uint64(float64(part) / float64(whole) * 100)
}

// bar draws how much of whole part is.
func bar(part, whole uint64) string { return barOf(part, whole, 14) }

func barOf(part, whole uint64, width int) string {
	full := int(percent(part, whole)) * width / 100
	return "▕" + strings.Repeat("█", full) + strings.Repeat("░", width-full) + "▏"
}

// count writes a number with its noun.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
