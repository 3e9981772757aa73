package trust

import (
	"cmp"
	"maps"
	"slices"
)

// A member is one device in a state.
type member struct {
	role  Role
	label string
}

// An invite is one open or spent invitation in a state.
type invite struct {
	role    Role
	uses    uint64
	expires uint64
	author  key
	revoked bool
	by      map[key]bool // devices that used it
}

// A state is what a set of ops says. It is never changed once it is returned.
type state struct {
	members map[key]member
	invites map[key]invite
	ever    map[key]Role // the highest role each device ever had
}

func newState() *state {
	return &state{map[key]member{}, map[key]invite{}, map[key]Role{}}
}

func (s *state) clone() *state {
	return &state{maps.Clone(s.members), maps.Clone(s.invites), maps.Clone(s.ever)}
}

// permits tells whether the author of o may say it, if s is all that was
// before.
func (s *state) permits(o *op) bool {
	rank, p := s.members[o.author].role, &o.payload
	switch o.kind {
	case Genesis:
		return len(s.members) == 0
	case Add, SetRole:
		had, is := s.members[p.device]
		return rank >= Admin && p.role <= rank && had.role <= rank && is == (o.kind == SetRole)
	case Remove:
		return p.device == o.author && rank > None || rank >= Admin && rank >= s.members[p.device].role
	case Invite:
		_, taken := s.invites[p.invite]
		return rank >= Admin && p.role <= rank && !taken
	case RevokeInvite:
		return rank >= Admin
	case Accept:
		return rank >= Reader && s.admits(p.invite, p.device, o.time) == nil
	}
	return rank > None
}

// admits tells why an invite would not let device in at a time.
func (s *state) admits(id, device key, time uint64) error {
	v, ok := s.invites[id]
	switch {
	case !ok || v.revoked || s.members[v.author].role < Admin || v.role > s.members[v.author].role:
		return ErrTicketRevoked
	case v.by[device] && s.members[device].role == None:
		return ErrTicketRevoked // for this device: it was removed since
	case v.by[device], uint64(len(v.by)) >= v.uses:
		return ErrTicketUsed
	case time > v.expires:
		return ErrTicketExpired
	}
	return nil
}

// apply adds the effect of o to s in place. It returns false if it has none:
// only ops of minors are asked for it.
func (s *state) apply(o *op) bool {
	p := &o.payload
	switch o.kind {
	case Genesis:
		s.put(o.author, Owner, p.label)
	case Add:
		s.put(p.device, p.role, p.label)
	case SetRole:
		if m, ok := s.members[p.device]; ok {
			s.put(p.device, p.role, cmp.Or(p.label, m.label))
		}
	case Remove:
		_, in := s.members[p.device]
		delete(s.members, p.device)
		return in
	case Invite:
		if _, taken := s.invites[p.invite]; !taken {
			s.invites[p.invite] = invite{role: p.role, uses: p.uses, expires: p.expires, author: o.author}
		}
	case RevokeInvite:
		v := s.invites[p.invite]
		v.revoked = true
		s.invites[p.invite] = v
	case Accept:
		v := s.invites[p.invite]
		if v.by[p.device] || uint64(len(v.by)) >= v.uses {
			return false // a concurrent accept came first
		}
		v.by = maps.Clone(v.by)
		if v.by == nil {
			v.by = map[key]bool{}
		}
		v.by[p.device] = true
		s.invites[p.invite] = v
		s.put(p.device, max(v.role, s.members[p.device].role), p.label)
	default:
		return false
	}
	return true
}

func (s *state) put(device key, r Role, label string) {
	s.members[device] = member{r, label}
	s.ever[device] = max(s.ever[device], r)
}

// stands tells whether an op whose author had the role in its past still has
// that support among all ops before it in order: it has not if what gave the
// author the role did not count. Removes are not undone by other removes.
func (s *state) stands(o *op) bool {
	switch o.kind {
	case Genesis:
		return true
	case Remove:
		return s.ever[o.author] >= min(o.rank, Admin)
	case Accept:
		v, ok := s.invites[o.payload.invite]
		return ok && !v.revoked && s.members[o.author].role >= Reader
	case Add, SetRole, Invite, RevokeInvite:
		return s.members[o.author].role >= max(Admin, o.payload.role)
	}
	return true
}

// evaluate returns what a causally closed set of linked ops says, in order, and
// which of them are of use. What is void depends on ops of admins only: without
// ops of minors that are of no use it returns the same.
func evaluate(ops []*op) (s *state, use bitset) {
	void := voided(ops)
	s = newState()
	for _, o := range ops {
		effect := !o.idle && !void[o] && s.stands(o) && s.apply(o)
		if effect || !o.minor {
			use = use.with(o.idx)
		}
	}
	return s, use
}

// voided returns the ops of a set that do not count because of concurrent
// removals and revocations in it.
func voided(ops []*op) map[*op]bool {
	void := map[*op]bool{}
	var admins, lowers, revokes []*op
	var bound bitset
	for _, o := range ops {
		switch {
		case o.minor:
			continue
		case o.lowers:
			lowers = append(lowers, o)
		case o.kind == RevokeInvite:
			revokes = append(revokes, o)
		}
		admins, bound = append(admins, o), bound.join(o.past)
	}
	leaves := map[key][]*op{} // that an admin has seen
	for _, o := range ops {
		if o.minor && o.kind == Remove && bound.has(o.idx) {
			leaves[o.author] = append(leaves[o.author], o)
		}
	}
	// Only a strictly higher role voids a removal: top down, each is settled
	// before those it may void.
	slices.SortStableFunc(lowers, func(a, b *op) int { return cmp.Compare(b.rank, a.rank) })
	for i, r := range lowers {
		void[r] = slices.ContainsFunc(lowers[:i], func(h *op) bool {
			return h.rank > r.rank && !void[h] && h.payload.device == r.author && concurrent(h, r)
		})
	}
	for _, o := range ops {
		if !o.lowers {
			void[o] = slices.ContainsFunc(lowers, func(r *op) bool { return !void[r] && r.hits(o) && concurrent(r, o) }) ||
				o.minor && gone(o, leaves[o.author], admins)
		}
	}
	for _, o := range ops {
		if o.kind == Accept && !void[o] {
			void[o] = slices.ContainsFunc(revokes, func(r *op) bool {
				return !void[r] && r.payload.invite == o.payload.invite && concurrent(r, o)
			})
		}
	}
	return void
}

// gone tells whether an admin that had not seen o knew of a leave of its author
// that o does not: the admin's op is as good as a removal.
func gone(o *op, leaves, admins []*op) bool {
	return slices.ContainsFunc(leaves, func(r *op) bool {
		return !o.past.has(r.idx) && slices.ContainsFunc(admins, func(a *op) bool { return a.past.has(r.idx) && !a.past.has(o.idx) })
	})
}

// hits tells whether removal r, if concurrent, keeps o from counting.
func (r *op) hits(o *op) bool {
	if r.payload.device == o.author && r.rank >= o.rank {
		return true
	}
	if r.kind != Remove || r.payload.device != o.payload.device {
		return false
	}
	return o.kind == Add || o.kind == SetRole || o.kind == Accept
}
