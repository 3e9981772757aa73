package peers

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/clachanfs/clachan/peers/trust"
)

// slowKV has who writes wait.
type slowKV struct {
	*memKV
	wait atomic.Pointer[chan struct{}]
}

func (kv *slowKV) Set(key string, val []byte) error {
	if ch := kv.wait.Load(); ch != nil {
		<-*ch
	}
	return kv.memKV.Set(key, val)
}

// A member that comes while the members are being looked at is called all the same.
func TestAMemberIsCalledHoweverManyLook(t *testing.T) {
	d := newDevice(t, "ana")
	g, _ := d.create("one")
	kv := &slowKV{memKV: newKV()}
	log, err := trust.Create(kv, d.id, "two", "", "ana", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d.node.adopt(log)
	add := func(l *trust.Log) peer.ID {
		id, err := trust.NewIdentity()
		if err == nil {
			err = l.Add(d.id, id.Public(), trust.Writer, "m", time.Now())
		}
		if err != nil {
			t.Error(err)
		}
		p, _ := peer.Decode(id.PeerID())
		return p
	}
	for range 12 { // folders are looked at in any order
		d.attach(Grant{ID: log.ID(), Settings: log.Settings(), Log: log})
		ch := make(chan struct{})
		kv.wait.Store(&ch)
		done := make(chan bool, 3)
		go func() { add(log); done <- true }()
		time.Sleep(5 * time.Millisecond)
		go func() { d.node.reconcile(); done <- true }() // waits for "two"
		time.Sleep(5 * time.Millisecond)
		p := add(g.Log)
		go func() { d.node.RemoveFolder(log.ID()); done <- true }()
		time.Sleep(5 * time.Millisecond)
		kv.wait.Store(nil)
		close(ch)
		for range cap(done) {
			<-done
		}
		if d.node.keeper(p) == nil {
			t.Fatal("a member is not called")
		}
	}
}
