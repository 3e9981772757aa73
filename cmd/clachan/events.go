package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/spf13/cobra"
)

func newEvents(a *app) *cobra.Command {
	var since uint64
	c := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Tell what happens, as it happens",
		Long: `Tell what happens from now on, a line each, until Ctrl-C: files changed here or
arrived from a member, removed and renamed ones, conflicts, members that come and
go, folders that are mounted or fail. With NAME only of that folder.

With --json each line is an object (see: clachan help json) with an id. --since
goes on after one: the daemon remembers the last thousand or so, --since 0 are
all of these. Where some are lost, since too much happened at once, nobody read them for
long or the daemon was started anew, an event of the kind gap says so.`,
		Example: `  clachan events
  clachan events Photos --json
  clachan events --json --since 0 | jq -r 'select(.kind == "arrived") | .path'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.folderNames,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := a.client(c.Context())
			if err != nil {
				return err
			}
			only := arg(args, 0)
			if only != "" {
				st, err := control.GetStatus.CallWithin(c.Context(), cl, a.timeout, control.StatusRequest{Folder: only})
				if err != nil {
					return err
				}
				only = st.Folders[0].Name
			}
			var from *uint64
			if c.Flags().Changed("since") {
				from = &since
			}
			return cl.Events(c.Context(), from, nil, func(e control.Event) error {
				if only != "" && e.Folder != only && e.Kind != control.EventGap {
					return nil
				}
				return a.event(e)
			})
		},
	}
	c.Flags().Uint64Var(&since, "since", 0, "begin after the event `ID` of before, 0 for all that are remembered")
	return c
}

// event writes one event.
func (a *app) event(e control.Event) error {
	if a.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	_, err := fmt.Fprintln(a.stdout, eventLine(e).text(a.colours(a.stdout), 0))
	return err
}

// eventLine says what happened.
func eventLine(e control.Event) line {
	l := line{{e.At.Local().Format(time.TimeOnly) + "  ", dim}}
	if e.Folder != "" {
		l = append(l, cell{legible(e.Folder) + "  ", strong})
	}
	return append(l, cell{eventWords(e), eventPaint(e.Kind)})
}

func eventPaint(kind string) paint {
	switch kind {
	case control.EventError, control.EventConflict:
		return red
	case control.EventGap, control.EventOnlyHere, control.EventDisconnected:
		return yellow
	}
	return unpainted
}

func eventWords(e control.Event) string {
	path := legible(e.Path)
	if e.Dir {
		path += "/"
	}
	by := ""
	if e.Author != "" {
		by = fmt.Sprintf("  by %s (%s)", legible(e.Author), legible(e.Device))
	}
	switch e.Kind {
	case control.EventChanged:
		return "changed  " + path
	case control.EventArrived:
		return "arrived  " + path + by
	case control.EventRemoved:
		return "removed  " + path + by
	case control.EventRenamed:
		return "renamed  " + legible(e.From) + " to " + path + by
	case control.EventConflict:
		return "conflict  " + path + by
	case control.EventResolved:
		return "conflict copy gone  " + path + by
	case control.EventConnected, control.EventDisconnected:
		return legible(e.Peer) + " " + e.Kind
	case control.EventJoined:
		return legible(e.Peer) + " joined"
	case control.EventGone:
		return legible(e.Peer) + " left"
	case control.EventError:
		return "error: " + e.Text
	case control.EventGap:
		if e.Count == 0 {
			return "some events are lost: they are of an earlier start of the daemon"
		}
		return count(e.Count, "event is", "events are") + " lost: more happened than could be told"
	}
	return folderWords[e.Kind]
}

var folderWords = map[string]string{
	control.EventAdded: "added", control.EventMounted: "mounted", control.EventUnmounted: "unmounted", control.EventLeft: "left",
	control.EventRecovered: "works again", control.EventSyncBegun: "syncing", control.EventSyncFinished: "all is here",
	control.EventOnlyHere: "has files on this machine only", control.EventHeld: "nothing is on this machine only any more",
}
