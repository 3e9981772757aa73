package trust

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clachanfs/clachan/syncer/model"
)

// Settings is what members share besides the log: the folder's name when it
// was made, and its secrets.
type Settings struct {
	Name      string
	IDKey     [32]byte // keys the block ids
	ChunkSeed [32]byte // seeds the chunker
}

// A Member is a device in a folder.
type Member struct {
	Pub   ed25519.PublicKey
	ID    string // peer ID
	Label string
	Role  Role
}

// A Log is the membership of one folder. It is safe for concurrent use.
type Log struct {
	id       FolderID
	settings Settings
	kv       KV

	mu      sync.RWMutex // guards all below
	byHash  map[Hash]*op
	ops     []*op        // in order of insertion: topological
	heads   map[Hash]*op // ops no other names as prev
	parked  map[Hash]*op // signed by members, but with a prev that is not here yet
	authors map[key]bool // devices that were ever given a writing role
	byKey   map[key]int  // ops of each author
	now     *state       // evaluation of all ops
}

const (
	maxParked = 512
	// maxMinorOps bounds what one author below admin may add to a log.
	maxMinorOps = 256
)

func newLog(kv KV, id FolderID, s Settings) *Log {
	return &Log{
		id: id, settings: s, kv: kv, byHash: map[Hash]*op{}, heads: map[Hash]*op{}, parked: map[Hash]*op{},
		authors: map[key]bool{}, byKey: map[key]int{}, now: newState(),
	}
}

// Create makes a new folder owned by id, and stores its log. names is its name
// policy, for good.
func Create(kv KV, id *Identity, name, names, label string, now time.Time) (*Log, error) {
	if err := errors.Join(CheckLabel(name), CheckLabel(label)); err != nil {
		return nil, fmt.Errorf("create folder: %w", err)
	}
	s := Settings{Name: name}
	nonce := make([]byte, 16)
	rand.Read(s.IDKey[:])
	rand.Read(s.ChunkSeed[:])
	rand.Read(nonce)
	g := &op{kind: Genesis, time: unix(now), payload: payload{label: label, nonce: nonce, suite: suite1}}
	if names != model.NamesBytes {
		g.payload.names = names
	}
	g, err := g.sign(id.Key())
	if err != nil {
		return nil, fmt.Errorf("create folder: %w", err)
	}
	return Adopt(kv, g.folder, s, [][]byte{g.raw})
}

// Adopt stores the log and settings of a folder this device was let into.
func Adopt(kv KV, id FolderID, s Settings, ops [][]byte) (*Log, error) {
	if err := CheckLabel(s.Name); err != nil {
		return nil, fmt.Errorf("adopt folder: %w", err)
	}
	l := newLog(kv, id, s)
	_, err := l.Merge(ops)
	if err == nil && len(l.ops) == 0 {
		err = fmt.Errorf("%w: no first op", ErrOp)
	}
	if err == nil {
		err = kv.Set(settingsKey(id), s.encode()) // last: with it the folder is there
	}
	if err != nil {
		return nil, fmt.Errorf("adopt folder: %w", errors.Join(err, Delete(kv, id)))
	}
	return l, nil
}

// Open reads the log of a folder from kv. ErrNoFolder if it is not there.
func Open(kv KV, id FolderID) (*Log, error) {
	raw, err := kv.Get(settingsKey(id))
	if err == nil && raw == nil {
		err = ErrNoFolder
	}
	if err != nil {
		return nil, fmt.Errorf("open membership of %s: %w", id, err)
	}
	s, err := decodeSettings(raw)
	if err != nil {
		return nil, fmt.Errorf("open membership of %s: %w", id, err)
	}
	var ops []*op
	var bad error
	err = kv.List(opPrefix(id), func(_ string, val []byte) bool {
		var o *op
		o, bad = decodeOp(val)
		ops = append(ops, o)
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("open membership of %s: %w", id, err)
	}
	l := newLog(kv, id, s)
	slices.SortFunc(ops, compareOps)
	for _, o := range ops {
		if err := l.link(o); err != nil {
			return nil, fmt.Errorf("open membership of %s: op %s: %w", id, o.hash, err)
		}
	}
	return l, nil
}

// List returns the folders whose membership is kept in kv.
func List(kv KV) ([]FolderID, error) {
	var out []FolderID
	err := kv.List("trust/", func(k string, _ []byte) bool {
		hex, ok := strings.CutSuffix(strings.TrimPrefix(k, "trust/"), "/settings")
		if id, err := ParseFolderID(hex); ok && err == nil {
			out = append(out, id)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", err)
	}
	return out, nil
}

// Delete forgets a folder: its secrets first, then its ops.
func Delete(kv KV, id FolderID) error {
	if err := kv.Delete(settingsKey(id)); err != nil {
		return fmt.Errorf("forget folder: %w", err)
	}
	var keys []string
	err := kv.List(opPrefix(id), func(k string, _ []byte) bool { keys = append(keys, k); return true })
	for _, k := range keys {
		err = errors.Join(err, kv.Delete(k))
	}
	if err != nil {
		return fmt.Errorf("forget folder: %w", err)
	}
	return nil
}

func settingsKey(id FolderID) string { return "trust/" + id.String() + "/settings" }
func opPrefix(id FolderID) string    { return "trust/" + id.String() + "/op/" }

func (s Settings) encode() []byte {
	b := appendBytes(nil, 1, []byte(s.Name))
	b = appendBytes(b, 2, s.IDKey[:])
	return appendBytes(b, 3, s.ChunkSeed[:])
}

func decodeSettings(b []byte) (s Settings, err error) {
	err = fields(b, func(num protowire.Number, _ uint64, p []byte) error {
		switch num {
		case 1:
			s.Name = string(p)
			return CheckLabel(s.Name)
		case 2:
			return exactly(s.IDKey[:], p)
		case 3:
			return exactly(s.ChunkSeed[:], p)
		}
		return nil
	})
	return s, err
}

// ID returns the folder's id.
func (l *Log) ID() FolderID { return l.id }

// Settings returns what members share besides the log.
func (l *Log) Settings() Settings { return l.settings }

// Names is the name policy that the folder was founded with.
func (l *Log) Names() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.ops) == 0 {
		return model.NamesBytes
	}
	return cmp.Or(l.ops[0].payload.names, model.NamesBytes)
}

// Founder is the device that made the folder.
func (l *Log) Founder() ed25519.PublicKey {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.ops) == 0 {
		return nil
	}
	return ed25519.PublicKey(slices.Clone(l.ops[0].author[:]))
}

// Members returns the members, sorted by label, then key.
func (l *Log) Members() []Member {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := make([]Member, 0, len(l.now.members))
	for k, m := range l.now.members {
		pub := ed25519.PublicKey(slices.Clone(k[:]))
		out = append(out, Member{Pub: pub, ID: PeerID(pub), Label: m.label, Role: m.role})
	}
	slices.SortFunc(out, func(a, b Member) int {
		if c := strings.Compare(a.Label, b.Label); c != 0 {
			return c
		}
		return slices.Compare(a.Pub, b.Pub)
	})
	return out
}

// Role returns what a device is now, None for a stranger.
func (l *Log) Role(pub ed25519.PublicKey) Role {
	if len(pub) != ed25519.PublicKeySize {
		return None
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now.members[key(pub)].role
}

// Allowed tells whether a device is a member.
func (l *Log) Allowed(pub ed25519.PublicKey) bool { return l.Role(pub) > None }

// CanWrite tells whether a device may change the folder now.
func (l *Log) CanWrite(pub ed25519.PublicKey) bool { return l.Role(pub) >= Writer }

// MayAuthor returns nil if changes signed by a device are taken: it is or once
// was a writer. What it wrote while it was one must stay valid after it left,
// and all members must agree on it; what it writes later reaches nobody,
// because nobody connects to it.
func (l *Log) MayAuthor(pub ed25519.PublicKey) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(pub) != ed25519.PublicKeySize || !l.authors[key(pub)] {
		return fmt.Errorf("author %s: %w", PeerID(pub), ErrRole)
	}
	return nil
}

// Heads returns the hashes of the newest ops: the log in short.
func (l *Log) Heads() []Hash {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.headHashes()
}

func (l *Log) headHashes() []Hash {
	out := make([]Hash, 0, len(l.heads))
	for h := range l.heads {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Hash) int { return slices.Compare(a[:], b[:]) })
	return out
}

// Len returns how many ops there are: it grows with each.
func (l *Log) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.ops)
}

// Knows tells whether all of hashes are ops of the log.
func (l *Log) Knows(hashes []Hash) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, h := range hashes {
		if l.byHash[h] == nil {
			return false
		}
	}
	return true
}

// Since returns the ops that are not among heads and what came before them,
// each after those it names. Heads it does not know are passed over.
func (l *Log) Since(heads []Hash) [][]byte {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var known bitset
	for _, h := range heads {
		if o := l.byHash[h]; o != nil {
			known = known.join(o.past)
		}
	}
	var out [][]byte
	for i, o := range l.ops {
		if !known.has(i) {
			out = append(out, o.raw)
		}
	}
	return out
}

// Merge adds ops in any order and stores them. Those whose prev is not here
// wait for it. It returns how many took effect; the error is about the first
// that no honest member would have sent, and does not keep the others out.
func (l *Log) Merge(records [][]byte) (added int, err error) {
	ops := make([]*op, 0, min(len(records), MaxOps))
	first := func(bad error) {
		if err == nil {
			err = bad
		}
	}
	for _, raw := range records {
		if len(ops) == MaxOps {
			first(fmt.Errorf("%w: too many", ErrOp))
			break
		}
		o, bad := decodeOp(raw)
		if bad == nil && o.folder != l.id {
			bad = fmt.Errorf("%w: of another folder", ErrOp)
		}
		if bad != nil {
			first(bad)
			continue
		}
		ops = append(ops, o)
	}
	slices.SortFunc(ops, compareOps)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range ops {
		n, bad := l.insert(o)
		added += n
		first(bad)
	}
	return added, err
}

// insert links and stores o and what waited for it, or parks it.
func (l *Log) insert(o *op) (added int, err error) {
	for queue := []*op{o}; len(queue) > 0; queue = queue[1:] {
		o := queue[0]
		if l.byHash[o.hash] != nil {
			continue
		}
		if l.lacks(o) {
			if len(l.parked) < maxParked && l.now.ever[o.author] > None {
				l.parked[o.hash] = o
			}
			continue
		}
		delete(l.parked, o.hash)
		if bad := l.admissible(o); bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		if err := l.kv.Set(opPrefix(l.id)+o.hash.String(), o.raw); err != nil {
			return added, fmt.Errorf("store op: %w", err)
		}
		if err := l.link(o); err != nil {
			return added, err
		}
		added++
		for _, w := range l.parked {
			if slices.Contains(w.prev, o.hash) && !l.lacks(w) {
				queue = append(queue, w)
			}
		}
	}
	return added, err
}

func (l *Log) lacks(o *op) bool {
	return slices.ContainsFunc(o.prev, func(h Hash) bool { return l.byHash[h] == nil })
}

// admissible bounds what the log takes from outside. It depends on what is
// here already; only floods meet it.
func (l *Log) admissible(o *op) error {
	if len(l.ops) >= MaxOps || l.now.members[o.author].role < Admin && l.byKey[o.author] >= maxMinorOps {
		return fmt.Errorf("%w: log is full", ErrOp)
	}
	_, err := l.past(o)
	return err
}

// past checks o against its causal past, and returns that past's evaluation.
func (l *Log) past(o *op) (*state, error) {
	if o.kind == Genesis {
		if o.folder != l.id || len(l.ops) > 0 {
			return nil, fmt.Errorf("%w: another first op", ErrOp)
		}
		return newState(), nil
	}
	var lamport uint64
	for _, h := range o.prev {
		p := l.byHash[h]
		if p == nil {
			return nil, fmt.Errorf("%w: prev is missing", ErrOp)
		}
		lamport = max(lamport, p.lamport+1)
	}
	if o.lamport != lamport {
		return nil, fmt.Errorf("%w: lamport %d, not %d", ErrOp, o.lamport, lamport)
	}
	base := l.before(o.prev)
	if !base.permits(o) {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrOp, o.kind, ErrRole)
	}
	return base, nil
}

// before evaluates heads and all that came before them.
func (l *Log) before(heads []Hash) *state {
	if len(heads) == 1 {
		return l.byHash[heads[0]].after
	}
	var set bitset
	for _, h := range heads {
		set = set.join(l.byHash[h].past)
	}
	var ops []*op
	for i, o := range l.ops {
		if set.has(i) {
			ops = append(ops, o)
		}
	}
	return evaluate(ops)
}

// link puts o into the DAG and evaluates anew.
func (l *Log) link(o *op) error {
	base, err := l.past(o)
	if err != nil {
		return err
	}
	o.idx = len(l.ops)
	for _, h := range o.prev {
		o.past = o.past.join(l.byHash[h].past)
		delete(l.heads, h)
	}
	o.past = o.past.with(o.idx)
	o.rank = base.members[o.author].role
	o.lowers = o.kind == Remove || o.kind == SetRole && o.payload.role < base.members[o.payload.device].role
	o.after = base.clone()
	o.after.apply(o)
	for k, r := range o.after.ever {
		if r >= Writer {
			l.authors[k] = true
		}
	}
	l.ops = append(l.ops, o)
	l.byHash[o.hash] = o
	l.heads[o.hash] = o
	l.byKey[o.author]++
	l.now = l.before(l.headHashes())
	return nil
}

func unix(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) }

// Nobody is the log of a folder this device is not in.
var Nobody = newLog(nil, FolderID{}, Settings{})

// Tops returns those of hashes that are not in the past of others of them.
// All must be known.
func (l *Log) Tops(hashes []Hash) []Hash {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Hash
	for _, h := range hashes {
		o := l.byHash[h]
		below := slices.ContainsFunc(hashes, func(g Hash) bool { return g != h && l.byHash[g].past.has(o.idx) })
		if !below && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}
