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
	byHash  map[Hash]*op // ops whose past is here: kept and spare
	ops     []*op        // the same by op.idx; nil is a free place
	free    []int        // places in ops
	parked  []*op        // signed by members, but with a prev that is not here yet; oldest first
	heads   []*op        // of the ops of use, those no other of them has in its past
	ends    []*op        // of the ops kept, those no other of them has in its past
	use     bitset       // ops of admins, and those that have an effect
	authors map[key]Role // the highest role an op that is here gave a device
	took    map[key]bool // devices whose changes may have been taken
	now     *state       // evaluation of all ops
	kept    int
	version uint64
	clock   uint64 // counts what came
}

func newLog(kv KV, id FolderID, s Settings) *Log {
	return &Log{
		id: id, settings: s, kv: kv, byHash: map[Hash]*op{},
		authors: map[key]Role{}, took: map[key]bool{}, now: newState(),
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
	if err == nil && l.kept == 0 {
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
	if err := l.load(ops); err != nil {
		return nil, fmt.Errorf("open membership of %s: %w", id, err)
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
// was a writer, be it for some members only. What it wrote while it was one must stay valid after it left,
// and all members must agree on it; what it writes later reaches nobody,
// because nobody connects to it.
func (l *Log) MayAuthor(pub ed25519.PublicKey) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(pub) != ed25519.PublicKeySize || l.authors[key(pub)] < Writer {
		return fmt.Errorf("author %s: %w", PeerID(pub), ErrRole)
	}
	return nil
}

// Took says that changes of a device were taken in: what lets it write stays in
// the log even if it has no effect any more, for those who are sent the changes.
func (l *Log) Took(pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return nil
	}
	l.mu.RLock()
	old := l.took[key(pub)]
	l.mu.RUnlock()
	if old {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[key(pub)] = true
	if _, err := l.settle(); err != nil {
		delete(l.took, key(pub))
		return fmt.Errorf("keep what let %s write: %w", PeerID(pub), err)
	}
	return nil
}

// Heads returns the hashes of the newest ops kept: the log in short. Those of use
// come first.
func (l *Log) Heads() []Hash {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := hashesOf(l.heads)
	for _, h := range hashesOf(l.ends) {
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// hashesOf returns the hashes of ops, sorted.
func hashesOf(ops []*op) []Hash {
	out := make([]Hash, 0, len(ops))
	for _, o := range ops {
		out = append(out, o.hash)
	}
	slices.SortFunc(out, func(a, b Hash) int { return slices.Compare(a[:], b[:]) })
	return out
}

// Len returns how many ops are kept.
func (l *Log) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.kept
}

// Version grows with each change of what is kept.
func (l *Log) Version() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.version
}

// Knows tells whether all of hashes are ops that were found good here, of use or
// not.
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

// Since returns the ops kept that are not among heads and what came before them,
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
	for _, o := range l.sorted() {
		if o.kept && !known.has(o.idx) {
			out = append(out, o.raw)
		}
	}
	return out
}

// Merge adds ops in any order and stores them. Those whose prev is not here
// wait for it, and so do those that are of no use. It returns how many are kept
// that were not before; the error is about the first that no honest member would
// have sent, and does not keep the others out.
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
	had := len(l.byHash)
	for _, o := range ops {
		first(l.take(o))
	}
	if len(l.byHash) == had {
		return 0, err
	}
	added, bad := l.settle()
	first(bad)
	return added, err
}

func unix(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) }

// Nobody is the log of a folder this device is not in.
var Nobody = newLog(nil, FolderID{}, Settings{})

// Tops returns those of hashes that are not in the past of others of them.
// Those not known are left out.
func (l *Log) Tops(hashes []Hash) []Hash {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Hash
	for _, h := range hashes {
		o := l.byHash[h]
		below := o == nil || slices.ContainsFunc(hashes, func(g Hash) bool {
			p := l.byHash[g]
			return p != nil && p != o && p.past.has(o.idx)
		})
		if !below && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}
