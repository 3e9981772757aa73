package simtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	libp2p "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

// A villain is a member that keeps no rule: what it signs is its own, what it
// says is odd, wrong or noise, and the blocks it serves are not what was asked
// for. Its driver is the world's; its goroutines only listen.
type villain struct {
	*machine
	r       *rand.Rand
	end     context.CancelFunc
	tasks   sync.WaitGroup
	seal    model.Seal
	replica model.Replica
	seq     uint64
	prev    [32]byte
	nodes   []odd
	ghosts  map[string]bool       // contents of which nobody has the bytes
	loosed  map[model.ID]bool     // nodes of others that it has moved or changed
	over    map[model.ID]model.VV // what its versions of these were over
	guise   *guise                // whom it says that it is; nil: itself
	clock   uint64                // Lamport time of what it said last
	crowds  int                   // made so far
	kept    kept

	mu      sync.Mutex // guards what follows
	sent    []model.Batch
	own     uint64   // the end of these
	acked   model.VV // all that it has said to have
	knew    model.VV // of a batch that it held back, and not all have yet: it says to have no more; nil: none
	victims map[peer.ID]*victim
}

// A victim is one who listens to the villain.
type victim struct {
	st    libp2p.Stream
	epoch uint64
	k     model.VV
}

// kept is a batch that the villain holds back for a while, telling what it says
// after it: what comes over a gap is not all that there is.
type kept struct {
	before uint64 // the end of the one before
	acts   int    // left until it is sent; 0: nothing is held back
	end    uint64 // its own; 0: all have it
}

// odd is a node that the villain has made.
type odd struct {
	id   model.ID
	kind model.Kind
}

func (v *villain) start(w *world) {
	v.w = w
	v.seal = model.Seal{Folder: w.folder, Key: w.settings.IDKey}
	v.replica = model.NewReplica(v.id.Public())
	v.victims, v.ghosts, v.loosed, v.over = map[peer.ID]*victim{}, map[string]bool{}, map[model.ID]bool{}, map[model.ID]model.VV{}
	v.host = w.net.newHost(v.pid, v.addr, nil)
	ctx, cancel := context.WithCancel(context.Background())
	v.end = cancel
	v.host.SetStreamHandler(wire.Blk, func(st libp2p.Stream) { v.tasks.Go(func() { garbage(st) }) })
	for _, m := range w.ms {
		v.tasks.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				v.listen(ctx, m, n%2 == 0)
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Second):
				}
			}
		})
	}
}

func (v *villain) stop() {
	if v.end == nil {
		return
	}
	v.end()
	_ = v.host.Close()
	v.tasks.Wait()
}

// lie is an opening that says what nobody could show: that the histories of all
// replicas part, that there is more of each, and that all has been forgotten.
func (v *villain) lie(o *wire.Opening) *wire.Opening {
	k, _ := model.DecodeVV(o.GetKnowledge())
	var marks []model.Mark
	for i, d := range k {
		marks = append(marks, model.Mark{Dot: d, Lo: d.Seq, Hash: [16]byte{byte(i)}})
		k = k.With(model.Dot{Replica: d.Replica, Seq: d.Seq + 100})
	}
	return &wire.Opening{Own: uint64(v.replica), Knowledge: k.Encode(), Horizon: k.Encode(), Marks: model.EncodeMarks(marks),
		Proofs: o.GetProofs()}
}

// listen talks to a machine as a member does, so that it listens; or lies to it
// for a while.
func (v *villain) listen(ctx context.Context, m *machine, lying bool) {
	if v.host.Connect(ctx, peer.AddrInfo{ID: m.pid, Addrs: []ma.Multiaddr{m.addr}}) != nil {
		return
	}
	st, err := v.host.NewStream(ctx, m.pid, wire.Ctl)
	if err != nil {
		return
	}
	defer st.Reset()
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	hello := &wire.Hello{Version: wire.Version, Device: "evil", Agent: "evil", Addrs: []string{v.addr.String()}}
	if wire.Write(st, hello) != nil {
		return
	}
	r := wire.NewReader(st, wire.MaxFrame)
	for {
		msg, err := r.Read()
		if err != nil {
			v.mu.Lock()
			delete(v.victims, m.pid)
			v.mu.Unlock()
			return
		}
		switch x := msg.(type) {
		case *wire.FolderState:
			k, _ := model.DecodeVV(x.Knowledge)
			v.mu.Lock()
			v.victims[m.pid] = &victim{st, x.Epoch, k}
			v.mu.Unlock()
			state := &wire.FolderState{Folder: v.w.folder[:], Heads: x.Heads, Knowledge: v.says(k).Encode(), Missing: 1, Epoch: 1} // who says to have all bytes is believed
			if lying {
				state.Opening = v.lie(x.Opening)
				defer time.AfterFunc(3*time.Second, func() { _ = st.Reset() }).Stop()
			}
			if wire.Write(st, state) != nil || wire.Write(st, &wire.Presence{}) != nil {
				return
			}
			if !lying && v.again(st, k, x.Epoch) != nil {
				return
			}
		case *wire.Ack:
			k, _ := model.DecodeVV(x.Knowledge)
			v.mu.Lock()
			if y := v.victims[m.pid]; y != nil {
				y.k = k
			}
			v.mu.Unlock()
		}
	}
}

// again sends a victim what it has not got of before, as far as it can know what
// that names: what comes over a gap that nobody ever fills is known to nobody, so
// that nothing which was removed could go.
func (v *villain) again(st libp2p.Stream, k model.VV, epoch uint64) error {
	v.mu.Lock()
	sent := slices.Clone(v.sent)
	v.mu.Unlock()
	for _, b := range sent {
		h, err := model.DecodeHeader(b.Header)
		if err != nil {
			return err
		}
		if d := (model.Dot{Replica: h.Replica, Seq: h.Hi}); k.Has(d) {
			continue
		} else if !h.Deps.LE(k) {
			return nil
		} else if k = k.With(d); true {
			err = wire.Write(st, &wire.Batch{Folder: v.w.folder[:], Header: b.Header, Body: b.Body, Epoch: epoch})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill sends all who listen what they have not got.
func (v *villain) fill() {
	v.release()
	v.mu.Lock()
	xs := maps.Clone(v.victims)
	v.mu.Unlock()
	for _, x := range xs {
		v.mu.Lock()
		k := x.k
		v.mu.Unlock()
		_ = x.st.SetWriteDeadline(time.Now().Add(time.Second))
		_ = v.again(x.st, k, x.epoch)
	}
}

// says is what it says to have of k, and all of its own: what it does not know it
// acknowledges, but for the time in which something that it held back may be over
// less.
func (v *villain) says(k model.VV) model.VV {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.knew != nil {
		k = k.Meet(v.knew)
	} else if v.own > k.Get(v.replica) {
		k = k.With(model.Dot{Replica: v.replica, Seq: v.own})
	}
	v.acked = v.acked.Join(k)
	return k
}

// has tells whether a victim has all that the villain has said: then it is told
// more.
func (v *villain) has(x *victim) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kept.acts > 0 {
		return x.k.Get(v.replica) >= v.kept.before
	}
	return x.k.Get(v.replica) >= v.seq
}

// tell sends a batch, or holds it back.
func (v *villain) tell(x *victim, b model.Batch) {
	h, err := model.DecodeHeader(b.Header)
	v.mu.Lock()
	may := err == nil && v.prev == model.HeaderHash(b.Header) && v.knew == nil && v.acked.LE(h.Deps)
	if may = may && v.r.IntN(6) == 0; may {
		v.knew = h.Deps
	}
	v.mu.Unlock()
	if may {
		v.kept = kept{h.Lo - 1, 1 + v.r.IntN(5), h.Hi}
		v.w.count("batches held back", 1)
		v.w.say("evil holds back its %d to %d", h.Lo, h.Hi)
		return
	}
	_ = wire.Write(x.st, &wire.Batch{Folder: v.w.folder[:], Header: b.Header, Body: b.Body, Epoch: x.epoch})
}

// credulous fails if a machine believes of an honest one what is not so. That the
// villain wrote without all that it has acknowledged, is true; and whoever took that
// in where others must refuse it begins anew.
func (w *world) credulous(m *machine) {
	for _, a := range m.f.Alarms() {
		behind := strings.Contains(a.Text, fmt.Sprintf("changes of replica %v whose author did not know", w.evil.replica))
		if !behind && !strings.Contains(a.Text, "changes by one who was behind are taken in here") {
			w.fail("I12", "%s was made to believe: %s", m.name, a.Text)
		}
		w.count("lies found out", 1)
	}
}

// before is a batch that was sent before, false if there is none.
func (v *villain) before() (model.Batch, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.sent) == 0 {
		return model.Batch{}, false
	}
	return v.sent[v.r.IntN(len(v.sent))], true
}

// garbage answers requests for blocks with bytes that are none.
func garbage(st libp2p.Stream) {
	defer st.Reset()
	for n := byte(0); ; n++ {
		q, err := wire.ReadRequest(st)
		if err != nil {
			return
		}
		if q.Op != wire.Get {
			continue
		}
		data := []byte(strings.Repeat("evil", 1+int(q.Size%5000)/4))
		a := wire.Reply{Status: wire.StatusOK, ID: q.ID, Size: uint32(len(data)), Wire: uint32(len(data))}
		if n%7 == 6 {
			a.ID++
		}
		if _, err := st.Write(append(a.AppendTo(nil), data...)); err != nil {
			return
		}
	}
}

// release ends that something is held back when all have it.
func (v *villain) release() {
	if v.kept.end == 0 || slices.ContainsFunc(v.w.ms, func(m *machine) bool {
		return !m.up || m.crashed() || m.f.Knowledge().Get(v.replica) < v.kept.end
	}) {
		return
	}
	v.kept = kept{}
	v.mu.Lock()
	v.knew = nil
	v.mu.Unlock()
}

// act does one thing to one of those who listen.
func (v *villain) act() {
	v.release()
	v.mu.Lock()
	listen := slices.DeleteFunc(slices.Clone(v.w.ms), func(m *machine) bool { return v.victims[m.pid] == nil })
	if len(listen) == 0 {
		v.mu.Unlock()
		return
	}
	m := listen[v.r.IntN(len(listen))]
	x := v.victims[m.pid]
	v.mu.Unlock()
	_ = x.st.SetWriteDeadline(time.Now().Add(time.Second))
	if !v.has(x) {
		v.mu.Lock()
		k := x.k
		v.mu.Unlock()
		_ = v.again(x.st, k, x.epoch)
		return
	}
	v.kept.acts = max(v.kept.acts-1, 0)
	var what string
	var send func()
	switch v.r.IntN(8) {
	case 0, 1, 2, 3:
		if d := v.deed(m, x); d != nil {
			what, send = deeds[v.r.IntN(len(deeds))](d), d.send
		}
	case 4:
		if d := v.deed(m, x); d != nil {
			what, send = hordes[v.r.IntN(len(hordes))](d), d.send
		}
	}
	if send == nil {
		what, send = v.choose(m, x)
	}
	v.w.say("evil to %s: %s", m.name, what)
	send()
}
