package support

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clachanfs/clachan/cmd/internal/control"
)

// A Veil puts pseudonyms in the place of what tells who somebody is and what
// is his. The zero value knows keys, tickets, ids of peers and addresses only.
type Veil struct {
	Open  bool // names stay, but keys and tickets do not
	words []word
	ips   map[netip.Addr]string
}

// A word is hidden wherever it stands by itself.
type word struct{ is, as string }

// Hide has a word, name or path replaced by another from now on.
func (v *Veil) Hide(is, as string) {
	quoted := strconv.Quote(is)
	for _, w := range []string{is, quoted[1 : len(quoted)-1], mountEscapes.Replace(is)} {
		if w != "" && w != "/" && !slices.ContainsFunc(v.words, func(o word) bool { return o.is == w }) {
			v.words = append(v.words, word{w, as})
		}
	}
	slices.SortStableFunc(v.words, func(a, b word) int { return cmp.Compare(len(b.is), len(a.is)) }) // the longest first
}

// mountEscapes is how mountinfo writes names.
var mountEscapes = strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)

var (
	ticket = regexp.MustCompile(`clachan1[0-9a-z]{16,}`)
	key    = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*-----.*?-----END [A-Z ]*-----|clachan-device-key-\S*\s+\S+`)
	peerID = regexp.MustCompile(`\b12D3Koo[1-9A-HJ-NP-Za-km-z]{30,}`)
	ip     = regexp.MustCompile(`\b[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+\b|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*`)
)

// Text is s with all that is known hidden.
func (v *Veil) Text(s string) string {
	s = key.ReplaceAllString(s, "KEY")
	s = ticket.ReplaceAllString(s, "TICKET")
	if v.Open {
		return s
	}
	s = v.hideWords(s)
	s = peerID.ReplaceAllStringFunc(s, peerName)
	return ip.ReplaceAllStringFunc(s, v.address)
}

func (v *Veil) hideWords(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if w, ok := v.at(s, i); ok {
			b.WriteString(w.as)
			i += len(w.is)
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// at finds the word that stands at i.
func (v *Veil) at(s string, i int) (word, bool) {
	for _, w := range v.words {
		if strings.HasPrefix(s[i:], w.is) && !goesOn(s[:i], w.is) && !goesOn(s[:i+len(w.is)], s[i+len(w.is):]) {
			return w, true
		}
	}
	return word{}, false
}

// goesOn tells whether there is no end of a word between a and b.
func goesOn(a, b string) bool {
	last, _ := utf8.DecodeLastRuneInString(a)
	first, _ := utf8.DecodeRuneInString(b)
	in := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	return a != "" && b != "" && in(last) && in(first)
}

// address numbers addresses, but for those of every machine for itself.
func (v *Veil) address(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsLoopback() || a.IsUnspecified() {
		return s
	}
	if v.ips == nil {
		v.ips = map[netip.Addr]string{}
	}
	if v.ips[a] == "" {
		kind := "public"
		if a.IsPrivate() || a.IsLinkLocalUnicast() {
			kind = "private"
		}
		v.ips[a] = fmt.Sprintf("%s-ip-%d", kind, len(v.ips)+1)
	}
	return v.ips[a]
}

// pseudonym is the same for the same id, and tells nothing of it to who does not know it.
func pseudonym(kind, id string) string {
	sum := sha256.Sum256([]byte("clachan support " + id))
	return fmt.Sprintf("%s-%x", kind, sum[:4])
}

func peerName(id string) string { return pseudonym("device", id) }

const (
	hidden     = "HIDDEN"
	hiddenText = "(left out: it may name files; the log has it without)"
)

// Status is st veiled, and has the veil know all names in it.
func (v *Veil) Status(st control.Status) control.Status {
	for _, f := range st.Folders {
		as := pseudonym("folder", f.ID)
		v.Hide(f.ID, as)
		v.Hide(f.Name, as)
		v.Hide(f.Dir, "/DIR-of-"+as)
	}
	v.Hide(st.Device, peerName(st.PeerID))
	for _, p := range st.Peers {
		v.Hide(p.Name, peerName(p.ID))
	}
	st.Folders = slices.Clone(st.Folders)
	for i := range st.Folders {
		f := &st.Folders[i]
		f.OnlyHerePaths = nil
		if f.Error != "" {
			f.Error = hiddenText
		}
		f.Notices = slices.Clone(f.Notices)
		for j := range f.Notices {
			f.Notices[j].Text = hiddenText
		}
	}
	if v.Open {
		return st
	}
	for i := range st.Folders {
		f := &st.Folders[i]
		as := pseudonym("folder", f.ID)
		f.ID, f.Name, f.Dir = as, as, "/DIR-of-"+as
		f.WaitingFor, f.Sources = v.names(f.WaitingFor), v.names(f.Sources)
	}
	st.Peers = slices.Clone(st.Peers)
	for i := range st.Peers {
		p := &st.Peers[i]
		p.ID, p.Name = peerName(p.ID), peerName(p.ID)
		p.Folders = slices.Clone(p.Folders)
		for j, id := range p.Folders {
			p.Folders[j] = pseudonym("folder", id)
		}
		p.Error = v.Text(p.Error)
	}
	st.Tasks = slices.Clone(st.Tasks)
	for i := range st.Tasks {
		st.Tasks[i].Folder = v.name(st.Tasks[i].Folder)
	}
	st.Addrs, st.PeerID, st.Device = v.all(st.Addrs), peerName(st.PeerID), peerName(st.PeerID)
	return st
}

// name is what stands for a name that is told by itself.
func (v *Veil) name(s string) string {
	if i := slices.IndexFunc(v.words, func(w word) bool { return w.is == s }); i >= 0 {
		return v.words[i].as
	}
	if s == "" {
		return ""
	}
	return hidden
}

func (v *Veil) names(names []string) (out []string) {
	for _, s := range names {
		out = append(out, v.name(s))
	}
	return out
}

func (v *Veil) all(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = v.Text(s)
	}
	return out
}
