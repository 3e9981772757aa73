package daemon

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/clachanfs/clachan/peers"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/syncer"
	"github.com/clachanfs/clachan/syncer/model"
)

// wantCopies is how many members should hold every current version.
const wantCopies = 2

// shownPaths is of how many files status says that they are only here.
const shownPaths = 3

// status shows the device, one folder or all, and the members of those.
func (d *Daemon) status(ctx context.Context, in control.StatusRequest) (control.Status, error) {
	folders := d.all()
	if in.Folder != "" {
		f, err := d.find(in.Folder)
		if err != nil {
			return control.Status{}, err
		}
		folders = []*folder{f}
	}
	st := control.Status{
		Schema: control.Schema, Device: d.o.Config.Device, PeerID: d.node.ID(), Addrs: d.addrs(),
		Folders: []control.FolderStatus{}, Peers: []control.PeerStatus{},
	}
	shown := map[trust.FolderID]bool{}
	for _, f := range folders {
		fs, err := d.folderStatus(ctx, f)
		if err != nil {
			return control.Status{}, err
		}
		st.Folders = append(st.Folders, fs)
		shown[f.grant.ID] = true
	}
	for _, p := range d.node.Peers() {
		if in.Folder == "" || slices.ContainsFunc(p.Folders, func(id trust.FolderID) bool { return shown[id] }) {
			st.Peers = append(st.Peers, d.peerStatus(p))
		}
	}
	sortPeers(st.Peers)
	name := in.Folder
	if name != "" {
		name = st.Folders[0].Name
	}
	st.Tasks = d.tasks.all(name)
	st.Operations = d.operations(name, folders, time.Now())
	return st, nil
}

func (d *Daemon) listPeers(context.Context, control.None) (control.PeerList, error) {
	list := control.PeerList{Schema: control.Schema, Peers: []control.PeerStatus{}}
	for _, p := range d.node.Peers() {
		list.Peers = append(list.Peers, d.peerStatus(p))
	}
	sortPeers(list.Peers)
	return list, nil
}

func sortPeers(peers []control.PeerStatus) {
	slices.SortFunc(peers, func(a, b control.PeerStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}

// peerStatus shows one member, and how fast it is.
func (d *Daemon) peerStatus(p peers.PeerState) control.PeerStatus {
	out, now := peerStatus(p), time.Now()
	out.SentRate = d.rates.of("sent "+p.ID, p.Sent, now)
	out.ReceivedRate = d.rates.of("received "+p.ID, p.Received, now)
	return out
}

func peerStatus(p peers.PeerState) control.PeerStatus {
	out := control.PeerStatus{
		ID: p.ID, Name: p.Name, Online: p.Online,
		SentBytes: p.Sent, ReceivedBytes: p.Received, Folders: []string{}, Error: p.Apart,
	}
	for _, id := range p.Folders {
		out.Folders = append(out.Folders, id.String())
	}
	if !p.LastSeen.IsZero() {
		t := p.LastSeen.UTC().Truncate(time.Second)
		out.LastSeen = &t
	}
	if !p.Online {
		return out
	}
	if p.Path != "" {
		out.Path = &p.Path
	}
	if p.Transport != "" {
		out.Transport = &p.Transport
	}
	if p.RTT > 0 {
		ms := float64(p.RTT) / float64(time.Millisecond)
		out.RTT = &ms
	}
	return out
}

// folderStatus shows one folder.
func (d *Daemon) folderStatus(ctx context.Context, f *folder) (control.FolderStatus, error) {
	v := d.view(f)
	st := control.FolderStatus{
		ID: v.grant.ID.String(), Name: v.rec.Name, Dir: v.rec.Dir, Mode: v.rec.mode(), Role: d.role(v).String(), Names: v.grant.Log.Names(),
		Mounted: v.mounted(), Copies: control.Copies{Want: wantCopies},
	}
	mark, err := d.records.scrubbed(v.grant.ID)
	if err != nil {
		return st, err
	}
	if !mark.Last.IsZero() {
		st.Scrubbed = &mark.Last
	}
	s := share{err: v.failure()}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	members := d.others(v)
	for _, m := range members {
		s.others = append(s.others, m.ID)
	}
	s.here = d.node.Remote(v.grant.ID).Present()
	s.online = len(s.here)
	if v.core() != nil {
		stats, err := v.core().Stats()
		if err != nil {
			return st, err
		}
		st.Files, st.Bytes, st.Conflicts, st.Returning = stats.Files, stats.Bytes, stats.Conflicts, stats.Returning
		st.NoRoom, st.Pending = stats.NoRoom, stats.Pending
		st.Rate = d.rates.of("fetched "+st.ID, v.core().Fetched(), time.Now())
		st.Notices = notices(v.core().Alarms(), members)
		lack := v.core().Lack()
		st.NeedBlocks, st.NeedBytes = uint64(lack.Blocks), uint64(lack.Bytes)
		st.Bytes = uint64(max(0, int64(st.Bytes)-lack.Shown) + lack.Wanted)
		st.LocalBytes = st.Bytes - min(st.Bytes, st.NeedBytes)
		s.pending, s.missing, s.conflicts = stats.Pending, st.NeedBlocks, stats.Conflicts
		st.Damaged = uint64(v.core().Store().Damaged())
		s.damaged = st.Damaged
		s.known, s.acks = v.core().Knowledge(), v.core().Acks()
		if err := onlyHere(ctx, v.core(), &s, &st); err != nil {
			return st, err
		}
		st.WaitingFor, st.Sources = s.waitingFor(members), s.sources(members)
	}
	if v.run != nil && v.run.plain != nil {
		for _, n := range v.run.plain.Notices() {
			st.Notices = append(st.Notices, control.Notice{At: n.At.UTC().Truncate(time.Second), Text: n.Text})
		}
	}
	for _, dir := range found(v.rec) {
		n := control.Notice{Text: "what programs wrote at the mountpoint while it was away is in " + dir}
		if info, err := os.Stat(dir); err == nil {
			n.At = info.ModTime().UTC().Truncate(time.Second)
		}
		st.Notices = append(st.Notices, n)
	}
	st.Copies.Min = s.copies()
	st.State = s.state()
	return st, nil
}

// onlyHere says which files are only here, as far as that can be told. Of changes that
// nobody else knows of it is known what they are about; of blocks that a member lacks of
// others it is not: then at least one file is.
func onlyHere(ctx context.Context, core *syncer.Folder, s *share, st *control.FolderStatus) error {
	own := core.Replica()
	least := s.onlyHere(own)
	st.Unheard = s.unheard()
	if least == 0 {
		return nil
	}
	made, told := s.known.Get(own), s.told(own)
	files, paths, exact, err := core.Unheld(ctx, told, shownPaths)
	if err != nil {
		return err
	}
	if exact = exact && least == made-told; !exact {
		files = max(1, files)
	}
	s.only = files
	s.pending += made - told
	st.OnlyHere, st.OnlyHereMore, st.OnlyHerePaths = files, !exact, paths
	return nil
}

// found is where strays at a mountpoint are.
func found(r record) []string {
	if r.Plain {
		return nil
	}
	return mount.Found(r.Dir)
}

// notices calls members by their names.
func notices(alarms []syncer.Alarm, members []trust.Member) (out []control.Notice) {
	for _, a := range alarms {
		for _, m := range members {
			a.Text = strings.ReplaceAll(a.Text, m.ID, cmp.Or(m.Label, m.ID))
		}
		out = append(out, control.Notice{At: a.At.UTC().Truncate(time.Second), Text: a.Text})
	}
	return out
}

// A share is what decides how a folder is doing.
type share struct {
	err                                        error
	others                                     []string // members but us
	here                                       []string // those of them that are connected
	online                                     int
	known                                      model.VV
	acks                                       map[string]syncer.Ack
	conflicts, missing, damaged, pending, only uint64
}

// holds reports whether a member told that it has all we know of, and all
// blocks of it.
func (s *share) holds(id string) bool {
	a, ok := s.acks[id]
	return ok && a.Missing == 0 && s.known.LE(a.K)
}

// onlyHere counts the changes made here that no other member holds in full, as
// far as they told: for each, those it does not know and the blocks it lacks
// of what it knows. What others made, they hold.
func (s *share) onlyHere(own model.Replica) uint64 {
	if len(s.others) == 0 {
		return 0
	}
	made := s.known.Get(own)
	least := made
	for _, id := range s.others {
		if a, ok := s.acks[id]; ok {
			told := min(a.K.Get(own), made)
			least = min(least, made-told+min(a.Missing, told))
		}
	}
	return least
}

// unheard tells that there are other members and none has told what it has: that is not
// remembered from one start of the daemon to the next.
func (s *share) unheard() bool {
	return len(s.others) > 0 && !slices.ContainsFunc(s.others, func(id string) bool { _, ok := s.acks[id]; return ok })
}

// told is the last change made here that another member knows of.
func (s *share) told(own model.Replica) (seq uint64) {
	for _, id := range s.others {
		seq = max(seq, s.acks[id].K.Get(own))
	}
	return min(seq, s.known.Get(own))
}

// waitingFor names the members that have not got all there is.
func (s *share) waitingFor(members []trust.Member) (names []string) {
	for _, m := range members {
		if !s.holds(m.ID) {
			names = append(names, cmp.Or(m.Label, m.ID))
		}
	}
	return names
}

// sources names the connected members that have all they know of, if something is
// missing here.
func (s *share) sources(members []trust.Member) (names []string) {
	for _, m := range members {
		if a, ok := s.acks[m.ID]; ok && s.missing > 0 && a.Missing == 0 && slices.Contains(s.here, m.ID) {
			names = append(names, cmp.Or(m.Label, m.ID))
		}
	}
	return names
}

// copies counts the members that hold every current version.
func (s *share) copies() int {
	n := 0
	if s.missing == 0 && s.damaged == 0 {
		n++
	}
	for _, id := range s.others {
		if s.holds(id) {
			n++
		}
	}
	return n
}

// state is the first of the states that holds.
func (s *share) state() string {
	switch {
	case s.err != nil:
		return control.StateError
	case s.conflicts > 0:
		return control.StateConflict
	case len(s.others) == 0:
		return control.StateSynced
	case s.online == 0:
		return control.StateOffline
	case s.only > 0:
		return control.StateOnlyHere
	case s.missing > 0:
		return control.StateSyncing
	case s.pending > 0:
		return control.StatePending
	}
	return control.StateSynced
}
