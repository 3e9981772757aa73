package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/clachanfs/clachan/peers/trust"
)

// ErrAttached means that a folder was added twice.
var ErrAttached = errors.New("folder is attached already")

// leaveTime bounds how long peers are waited for when something is said to
// them for the last time.
const leaveTime = 2 * time.Second

// A Grant is this device's membership in a folder.
type Grant struct {
	ID trust.FolderID
	trust.Settings
	Role trust.Role // None: removed by the others
	Log  *trust.Log
}

func (n *Node) grant(l *trust.Log) Grant {
	return Grant{ID: l.ID(), Settings: l.Settings(), Role: l.Role(n.pub), Log: l}
}

// Create makes a new folder that this device owns, with a name policy.
func (n *Node) Create(name, names string) (Grant, error) {
	l, err := trust.Create(n.cfg.KV, n.cfg.Identity, name, names, n.cfg.Name, time.Now())
	if err != nil {
		return Grant{}, err
	}
	n.adopt(l)
	return n.grant(l), nil
}

func (n *Node) adopt(l *trust.Log) {
	r := n.Remote(l.ID())
	r.mu.Lock()
	r.members = l
	r.mu.Unlock()
}

// Grants returns all memberships, of folders attached or not.
func (n *Node) Grants() ([]Grant, error) {
	ids, err := trust.List(n.cfg.KV)
	if err != nil {
		return nil, err
	}
	var out []Grant
	for _, id := range ids {
		if l, err := n.membership(id); err == nil {
			out = append(out, n.grant(l))
		}
	}
	return out, nil
}

// membership returns the log of a folder this device is in.
func (n *Node) membership(id trust.FolderID) (*trust.Log, error) {
	if r := n.remote(id); r != nil {
		if l := r.log(); l != trust.Nobody {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", trust.ErrNoFolder, id)
}

// Remote returns the members of a folder as a syncer.Remote. They are offline
// until AddFolder.
func (n *Node) Remote(id trust.FolderID) *Remote {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.folders[id]
	if r == nil {
		r = newRemote(n, id, nil)
		n.folders[id] = r
	}
	return r
}

// AddFolder begins to sync a folder this device is a member of. From now on
// the folder and the store are called, until RemoveFolder.
func (n *Node) AddFolder(s Share) error {
	if _, err := n.membership(s.ID); err != nil {
		return fmt.Errorf("add folder: %w", err)
	}
	r := n.Remote(s.ID)
	if !r.attach(s) {
		return fmt.Errorf("add folder: %w", ErrAttached)
	}
	n.membersChanged(r)
	return nil
}

// RemoveFolder ends syncing a folder. No call into it runs when it returns.
func (n *Node) RemoveFolder(id trust.FolderID) {
	if r := n.remote(id); r != nil {
		r.detach()
		n.reconcile()
	}
}

// Leave ends this device's membership: connected members are told, then the
// log and the keys are forgotten. The last owner goes silently, so that the
// folder does not stay without one on paper only.
func (n *Node) Leave(ctx context.Context, id trust.FolderID) error {
	l, err := n.membership(id)
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if owners := countRole(l, trust.Owner); l.Allowed(n.pub) && !(l.Role(n.pub) == trust.Owner && owners == 1) {
		if err := l.Remove(n.cfg.Identity, n.pub, nil, "left", time.Now()); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
		n.tellAll(ctx, id)
	}
	n.RemoveFolder(id)
	n.mu.Lock()
	delete(n.folders, id)
	n.mu.Unlock()
	for _, m := range l.Members() {
		if p, err := peer.Decode(m.ID); err == nil && n.keeper(p) == nil {
			if err := n.book.forget(p); err != nil {
				return fmt.Errorf("leave: %w", err)
			}
		}
	}
	if err := trust.Delete(n.cfg.KV, id); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

func countRole(l *trust.Log, role trust.Role) (count int) {
	for _, m := range l.Members() {
		if m.Role == role {
			count++
		}
	}
	return count
}

// tellAll sends the newest ops of a folder to the members connected, and waits
// a moment until they have them.
func (n *Node) tellAll(ctx context.Context, id trust.FolderID) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	r := n.remote(id)
	for _, s := range n.sessions() {
		if r != nil && s.has(r) {
			s.settled(ctx)
		}
	}
}

// Members returns who is in a folder, this device included.
func (n *Node) Members(id trust.FolderID) ([]trust.Member, error) {
	l, err := n.membership(id)
	if err != nil {
		return nil, err
	}
	return l.Members(), nil
}

// SetRole changes what a member may do.
func (n *Node) SetRole(id trust.FolderID, peerID string, role trust.Role) error {
	return n.decide(id, peerID, func(l *trust.Log, pub []byte) error {
		return l.SetRole(n.cfg.Identity, pub, role, "", time.Now())
	})
}

// Rename changes the name a member is shown under.
func (n *Node) Rename(id trust.FolderID, peerID, label string) error {
	return n.decide(id, peerID, func(l *trust.Log, pub []byte) error {
		return l.SetRole(n.cfg.Identity, pub, l.Role(pub), trust.CleanLabel(label), time.Now())
	})
}

// RemoveMember takes a member out. Connections to it end when it has been told.
func (n *Node) RemoveMember(id trust.FolderID, peerID string) error {
	return n.decide(id, peerID, func(l *trust.Log, pub []byte) error {
		var known []byte
		if r := n.remote(id); r != nil {
			if at, _, release := r.acquire(context.Background()); at != nil {
				known = at.Folder.Knowledge().Encode()
				release()
			}
		}
		if err := l.Remove(n.cfg.Identity, pub, known, "", time.Now()); err != nil {
			return err
		}
		n.tellAll(context.Background(), id)
		return nil
	})
}

func (n *Node) decide(id trust.FolderID, peerID string, f func(l *trust.Log, pub []byte) error) error {
	l, err := n.membership(id)
	if err != nil {
		return err
	}
	pub, err := trust.PublicKey(peerID)
	if err != nil {
		return fmt.Errorf("%w: %w", trust.ErrNoMember, err)
	}
	if err := f(l, pub); err != nil {
		return err
	}
	n.membersChanged(n.Remote(id))
	return nil
}

// RevokeInvites makes all tickets of a folder void.
func (n *Node) RevokeInvites(id trust.FolderID) error {
	l, err := n.membership(id)
	if err != nil {
		return err
	}
	if _, err := l.Revoke(n.cfg.Identity, time.Now()); err != nil {
		return err
	}
	n.membersChanged(n.Remote(id))
	return nil
}

// Invite makes a ticket that lets uses devices in until it expires.
func (n *Node) Invite(id trust.FolderID, role trust.Role, expires time.Duration, uses int) (string, error) {
	l, err := n.membership(id)
	if err != nil {
		return "", fmt.Errorf("invite: %w", err)
	}
	if role == trust.Blind {
		return "", errors.New("invite: this version has no sealed blocks for blind members yet")
	}
	now := time.Now()
	until := now.Add(expires).Truncate(time.Second)
	secret, err := l.Invite(n.cfg.Identity, role, uses, until, now)
	if err != nil {
		return "", err
	}
	n.membersChanged(n.Remote(id))
	t := trust.Ticket{Folder: id, Inviter: n.ID(), Addrs: n.ticketAddrs(id), Secret: secret, Role: role, Expires: until}
	return t.String(), nil
}

// ticketAddrs returns where a newcomer can knock: here and, if another member
// is connected, also there, in case this device is away.
func (n *Node) ticketAddrs(id trust.FolderID) []string {
	own := n.Addrs()
	r := n.remote(id)
	for _, s := range n.sessions() {
		other := s.reachable()
		if s.has(r) && r.log().Role(s.pub) >= trust.Reader && len(other) > 0 {
			own = own[:min(len(own), trust.MaxTicketAddrs-1)]
			return append(own, other[0]+"/p2p/"+s.p.String())
		}
	}
	return own[:min(len(own), trust.MaxTicketAddrs)]
}
