package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"time"
)

// append signs an op on top of what is of use, checks it like one from outside,
// and stores it if it is of use.
func (l *Log) append(id *Identity, now time.Time, kind Kind, p payload) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(id, now, kind, p)
}

func (l *Log) appendLocked(id *Identity, now time.Time, kind Kind, p payload) error {
	o := &op{folder: l.id, kind: kind, time: unix(now), payload: p}
	o.prev = l.prevs(key(id.Public()), p.device)
	for _, h := range o.prev {
		o.lamport = max(o.lamport, l.byHash[h].lamport+1)
	}
	o, err := o.sign(id.Key())
	if err != nil {
		return err
	}
	if err := l.take(o); err != nil {
		return err
	}
	_, err = l.settle()
	return err
}

// prevs chooses what a new op of author, about device, names: the heads. If they
// are too many, or have more in their past than an op may put to use, it is what
// admins decided, what the two are members by, and what else there is room for.
func (l *Log) prevs(author, device key) []Hash {
	all := l.sorted()
	var admins, own bitset
	for _, o := range all {
		switch {
		case !l.use.has(o.idx):
		case !o.minor:
			admins = admins.with(o.idx)
		case o.given > None && (o.gives == author || o.gives == device):
			own = own.with(o.idx)
		}
	}
	musts := append(tops(all, admins), tops(all, own)...)
	var past, bound, named bitset
	for i, o := range append(musts, l.heads...) {
		p, b := slices.Clone(past).join(o.past), slices.Clone(bound).join(o.bound)
		if past.has(o.idx) || named.without(nil) == maxPrev || i >= len(musts) && p.without(b) >= maxMinorOps {
			continue
		}
		past, bound, named = p, b, named.with(o.idx)
	}
	return hashesOf(tops(all, named))
}

// Invite opens an invitation and returns the secret of its ticket.
func (l *Log) Invite(id *Identity, role Role, uses int, expires, now time.Time) (secret [16]byte, err error) {
	rand.Read(secret[:])
	pub := inviteKey(l.id, secret).Public().(ed25519.PublicKey)
	if uses < 1 || uses > maxUses || !expires.After(now) || role == None || role > Owner {
		return secret, fmt.Errorf("invite: want a role, 1 to %d uses and an expiry to come", maxUses)
	}
	p := payload{invite: key(pub), role: role, uses: uint64(uses), expires: unix(expires)}
	if err := l.append(id, now, Invite, p); err != nil {
		return secret, fmt.Errorf("invite: %w", err)
	}
	return secret, nil
}

// Revoke closes all open invitations and returns how many.
func (l *Log) Revoke(id *Identity, now time.Time) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.openInvites(now) {
		if err := l.appendLocked(id, now, RevokeInvite, payload{invite: k}); err != nil {
			return n, fmt.Errorf("revoke: %w", err)
		}
		n++
	}
	return n, nil
}

func (l *Log) openInvites(now time.Time) (out []key) {
	for k, v := range l.now.invites {
		if !v.revoked && uint64(len(v.by)) < v.uses && unix(now) <= v.expires {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b key) int { return slices.Compare(a[:], b[:]) })
	return out
}

// Inviting tells whether a ticket may be out that has not expired: only then
// are strangers listened to. Used up and revoked ones count, so that their
// bearers can be told.
func (l *Log) Inviting(now time.Time) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, v := range l.now.invites {
		if v.uses > 0 && unix(now) <= v.expires {
			return true
		}
	}
	return false
}

// Accept admits a newcomer that holds a ticket: proof is its signature with
// the invite key (Ticket.Proof). Errors: ErrTicketUsed, ErrTicketExpired,
// ErrTicketRevoked, ErrOp for an unknown invite or a false proof, ErrRole if id may admit nobody.
// For a device that is a member already nothing is added.
func (l *Log) Accept(id *Identity, invite, device ed25519.PublicKey, label string, proof []byte, now time.Time) error {
	if !l.proves(invite, device, label, proof) {
		return fmt.Errorf("accept: %w: proof", ErrOp)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v, known := l.now.invites[key(invite)]
	if !known {
		return fmt.Errorf("accept: %w: unknown invite", ErrOp)
	}
	if v.by[key(device)] && l.now.members[key(device)].role > None {
		return nil // asked again: the first answer got lost
	}
	if err := l.now.admits(key(invite), key(device), unix(now)); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	p := payload{invite: key(invite), device: key(device), label: label, proof: proof}
	if err := l.appendLocked(id, now, Accept, p); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if l.now.members[p.device].role == None {
		return fmt.Errorf("accept: %w: too much that no admin has seen", ErrRole)
	}
	return nil
}

// Invited tells whether a newcomer has a ticket, though it may be void.
func (l *Log) Invited(invite, device ed25519.PublicKey, label string, proof []byte) bool {
	if !l.proves(invite, device, label, proof) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.now.invites[key(invite)]
	return known
}

func (l *Log) proves(invite, device ed25519.PublicKey, label string, proof []byte) bool {
	return len(invite) == ed25519.PublicKeySize && len(device) == ed25519.PublicKeySize && CheckLabel(label) == nil &&
		ed25519.Verify(invite, acceptText(l.id, key(device), label), proof)
}

// Add makes a device a member without a ticket.
func (l *Log) Add(id *Identity, device ed25519.PublicKey, role Role, label string, now time.Time) error {
	if len(device) != ed25519.PublicKeySize || CheckLabel(label) != nil {
		return fmt.Errorf("add member: %w", ErrOp)
	}
	if err := l.append(id, now, Add, payload{device: key(device), role: role, label: label}); err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return nil
}

// SetRole changes what a member may do, and its label unless that is empty.
func (l *Log) SetRole(id *Identity, device ed25519.PublicKey, role Role, label string, now time.Time) error {
	if l.Role(device) == None {
		return fmt.Errorf("set role: %w", ErrNoMember)
	}
	if err := l.append(id, now, SetRole, payload{device: key(device), role: role, label: label}); err != nil {
		return fmt.Errorf("set role: %w", err)
	}
	return nil
}

// Remove takes a device out. known is the remover's knowledge of the folder's
// changes, kept for later versions; it may be empty.
func (l *Log) Remove(id *Identity, device ed25519.PublicKey, known []byte, reason string, now time.Time) error {
	if l.Role(device) == None {
		return fmt.Errorf("remove member: %w", ErrNoMember)
	}
	if len(known) > maxKnown || l.Role(id.Public()) < Admin { // who leaves has room for little
		known = nil
	}
	p := payload{device: key(device), known: known, reason: CleanLabel(reason)}
	if err := l.append(id, now, Remove, p); err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	if l.Allowed(device) {
		return fmt.Errorf("remove member: %w: too much that no admin has seen", ErrRole)
	}
	return nil
}
