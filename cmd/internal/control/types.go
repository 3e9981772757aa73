package control

import "time"

// Schema is the version of the JSON that verbs print with --json.
const Schema = 1

// None is the request of an operation that needs no arguments.
type None struct{}

// InitRequest asks for a new folder, mounted at Dir.
type InitRequest struct {
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`     // absolute; empty: below the mounts of the configuration
	Names   string   `json:"names"`   // which names are the same: bytes, portable; empty: bytes
	Options []string `json:"options"` // of the mount, each a word or word=value
	Plain   bool     `json:"plain"`   // no mount: files on disk, and those that are there are taken in
}

// JoinRequest asks to become a member of the folder a ticket invites to.
type JoinRequest struct {
	Ticket  string   `json:"ticket"`
	Dir     string   `json:"dir"`
	Name    string   `json:"name"` // empty: as the others call it
	Options []string `json:"options"`
	Plain   bool     `json:"plain"` // as in InitRequest
}

// Folder is one folder of this device.
type Folder struct {
	Schema  int      `json:"schema,omitempty"` // where it is the whole answer
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`
	Mode    string   `json:"mode"`    // full or plain
	Mounted bool     `json:"mounted"` // or, if it is plain, kept the same as the directory
	Options []string `json:"options"`
	Role    string   `json:"role"`
	Names   string   `json:"names"`           // which are the same: bytes, portable
	Error   string   `json:"error,omitempty"` // why it is not mounted although it should be
}

// FolderList holds the folders of this device, by name.
type FolderList struct {
	Schema  int      `json:"schema"`
	Folders []Folder `json:"folders"`
}

// UpRequest asks for a folder that is there and mounted, whatever that takes.
type UpRequest struct {
	Dir     string   `json:"dir"`
	Name    string   `json:"name"`
	Ticket  string   `json:"ticket"` // join instead of making a folder
	Names   string   `json:"names"`  // as in InitRequest; a folder that is there must have them, unless empty
	Options []string `json:"options"`
}

// InviteRequest asks for a ticket.
type InviteRequest struct {
	Folder  string        `json:"folder"`
	Role    string        `json:"role"`
	Expires time.Duration `json:"expires"` // nanoseconds
	Uses    int           `json:"uses"`
}

// Invitation is a ticket and what it is good for.
type Invitation struct {
	Schema  int       `json:"schema"`
	Ticket  string    `json:"ticket"`
	Folder  string    `json:"folder"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`
}

// MountRequest asks for a folder to be mounted, at Dir from now on if given,
// with Options from now on unless nil.
type MountRequest struct {
	Folder  string   `json:"folder"`
	Dir     string   `json:"dir"`
	Options []string `json:"options"`
	Again   bool     `json:"again"` // where it was before: what programs wrote there since is put aside
}

// GoneRequest asks about files that are gone from a plain directory and were removed nowhere
// else, or says what becomes of them.
type GoneRequest struct {
	Folder  string `json:"folder"`
	Accept  bool   `json:"accept"`  // they are removed elsewhere too
	Restore bool   `json:"restore"` // they are written again
}

// Gone tells of such files.
type Gone struct {
	Schema int    `json:"schema"`
	Folder string `json:"folder"`
	Files  int    `json:"files"`
	Of     int    `json:"of"` // so many that the folder has
}

// UmountRequest asks for a folder to be unmounted and to stay so.
type UmountRequest struct {
	Folder string `json:"folder"`
	Lazy   bool   `json:"lazy"` // even while programs use it
}

// Unmounted tells what leaving the mount off means.
type Unmounted struct {
	Schema   int    `json:"schema"`
	OnlyHere uint64 `json:"only_here"`                // files no other member has in full yet
	More     bool   `json:"only_here_more,omitempty"` // at least so many: how many is not known
}

// LeaveRequest asks to forget a folder and everything of it on this device.
type LeaveRequest struct {
	Folder string `json:"folder"`
}

// StatusRequest asks for the status of one folder, or of all.
type StatusRequest struct {
	Folder string `json:"folder"`
}

// Status is the state of the whole device.
type Status struct {
	Schema  int            `json:"schema"`
	Device  string         `json:"device"`
	PeerID  string         `json:"peer_id"`
	Addrs   []string       `json:"addrs"`
	Folders []FolderStatus `json:"folders"`
	Peers   []PeerStatus   `json:"peers"`
	Tasks   []Task         `json:"tasks"` // long things that go on

	Operations *Operations `json:"operations,omitempty"` // that programs ask of mounts; left out where nothing is mounted
}

// Operations tells how many operations programs ask of mounts of late, as far as somebody
// asked before, and how long they take: of those whose time is taken, as buckets tell it.
type Operations struct {
	Rate uint64   `json:"rate"`   // in a second
	P50  *float64 `json:"p50_ms"` // half of them take at most so long; null: none had its time taken
	P99  *float64 `json:"p99_ms"` // 99 of 100 do
}

// The kinds of a Task.
const (
	TaskScan  = "scan"  // a plain directory is read for the first time since the start
	TaskCheck = "check" // of the store
)

// Task is something long that goes on in the daemon, and how far it is.
type Task struct {
	Kind   string `json:"kind"`
	Folder string `json:"folder,omitempty"` // its name
	Done   uint64 `json:"done"`
	Total  uint64 `json:"total"` // 0: nobody knows yet
	Unit   string `json:"unit"`  // files, tables, …
}

// The states of a folder, the first that holds.
const (
	StateError    = "error"     // it is not mounted although it should be, or it stopped
	StateConflict = "conflict"  // two versions of a file stand side by side
	StateOffline  = "offline"   // it has other members, and none is connected
	StateOnlyHere = "only-here" // a file is here only
	StateSyncing  = "syncing"   // blocks are missing here
	StatePending  = "pending"   // changes are not cut yet, or nobody else knows of them
	StateSynced   = "synced"
)

// States are all of them, the worst first.
var States = []string{StateError, StateConflict, StateOffline, StateOnlyHere, StateSyncing, StatePending, StateSynced}

// FolderStatus is the state of one folder. Sizes are in bytes.
type FolderStatus struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Dir        string `json:"dir"`
	Mode       string `json:"mode"` // full, on-demand, plain or blind
	Role       string `json:"role"`
	Names      string `json:"names"` // which are the same: bytes, portable
	State      string `json:"state"`
	Files      uint64 `json:"files"` // that are shown here
	Bytes      uint64 `json:"bytes"` // of current versions, here or not
	LocalBytes uint64 `json:"local_bytes"`
	NeedBlocks uint64 `json:"need_blocks"`
	NeedBytes  uint64 `json:"need_bytes"`
	Damaged    uint64 `json:"damaged"`   // blocks that the disk does not give back, of thousands not all
	OnlyHere   uint64 `json:"only_here"` // files
	Conflicts  uint64 `json:"conflicts"`
	Copies     Copies `json:"copies"`
	Mounted    bool   `json:"mounted"`
	Error      string `json:"error,omitempty"`
	// No other member has told what it has since the daemon started: what may be only here counts as such.
	Unheard       bool       `json:"unheard,omitempty"`
	OnlyHereMore  bool       `json:"only_here_more,omitempty"`  // at least so many are: how many, the others do not tell
	OnlyHerePaths []string   `json:"only_here_paths,omitempty"` // some of what is only here
	WaitingFor    []string   `json:"waiting_for,omitempty"`     // members that have not got all of it, by name
	Sources       []string   `json:"sources,omitempty"`         // connected members that have all that is missing here
	Pending       uint64     `json:"pending"`                   // changes that are not cut
	Rate          uint64     `json:"rate"`                      // bytes of files that came in a second of late, as far as somebody asked before
	NoRoom        bool       `json:"no_room,omitempty"`         // the disk is too full for what others write
	Scrubbed      *time.Time `json:"scrubbed"`                  // when all blocks had last been verified; null: never
	// It has begun anew, and takes from others what they have before it tells its own.
	Returning bool     `json:"returning,omitempty"`
	Notices   []Notice `json:"notices,omitempty"` // since the daemon started, the newest last
}

// Notice tells of something that went wrong among members and that was dealt
// with: a database that was restored from a copy, a long absence.
type Notice struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Copies tells how many members should hold, and how many are known to hold,
// every current version: Min is that of the version with the fewest.
type Copies struct {
	Want int `json:"want"`
	Min  int `json:"min"`
}

// PeerStatus is another member of one of our folders. Path, Transport and RTT
// are null while it is offline.
type PeerStatus struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	Online        bool       `json:"online"`
	Path          *string    `json:"path"`      // lan, direct or relay
	Transport     *string    `json:"transport"` // tcp or quic
	RTT           *float64   `json:"rtt_ms"`
	SentBytes     uint64     `json:"sent_bytes"` // since the daemon started
	ReceivedBytes uint64     `json:"received_bytes"`
	SentRate      uint64     `json:"sent_rate"` // bytes in a second of late, as far as somebody asked before
	ReceivedRate  uint64     `json:"received_rate"`
	Folders       []string   `json:"folders"`
	LastSeen      *time.Time `json:"last_seen,omitempty"`
	Error         string     `json:"error,omitempty"` // why it cannot be talked to
}

// PeerList holds the members of our folders, by name.
type PeerList struct {
	Schema int          `json:"schema"`
	Peers  []PeerStatus `json:"peers"`
}

// Identity is who this device is to others.
type Identity struct {
	Schema int      `json:"schema"`
	Device string   `json:"device"`
	PeerID string   `json:"peer_id"`
	Addrs  []string `json:"addrs"`
}

// WaitRequest asks to be told when what was written so far is safe.
type WaitRequest struct {
	Folder  string        `json:"folder"`  // empty: every folder
	On      string        `json:"on"`      // a member, or "all"; empty: here is enough
	Timeout time.Duration `json:"timeout"` // nanoseconds
}

// CheckReport is what a check of the store found.
type CheckReport struct {
	Schema   int      `json:"schema"`
	Folders  int      `json:"folders"`
	Problems []string `json:"problems"`
}

// Version tells what runs. The daemon's may differ from the client's.
type Version struct {
	Schema   int    `json:"schema"`
	Version  string `json:"version"`
	Go       string `json:"go"`
	Format   int    `json:"format"`           // of the store
	Protocol int    `json:"protocol"`         // between peers
	Config   string `json:"config,omitempty"` // of a daemon: its configuration file
	Data     string `json:"data,omitempty"`   // and its data folder

	Store *StoreVersion `json:"store,omitempty"` // what is there
}

// StoreVersion tells in which formats a store is on the disk: that of all of it,
// and those of its two databases as their library counts them.
type StoreVersion struct {
	Format int `json:"format"` // 0: there is none
	Meta   int `json:"meta"`
	Blocks int `json:"blocks"`
}

// CheckpointRequest asks for a copy of the data folder.
type CheckpointRequest struct {
	Dir string `json:"dir"` // absolute, and not there; empty: in the data folder
}

// CheckpointMade tells where it is.
type CheckpointMade struct {
	Schema int    `json:"schema"`
	Dir    string `json:"dir"`
}

// Reloaded tells what became of settings that were read again.
type Reloaded struct {
	Schema  int      `json:"schema"`
	Waiting []string `json:"waiting"` // these are taken over when the daemon starts again
}

// Setting is one setting and where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`  // a string, a bool or a list of strings
	Origin string `json:"origin"` // default, the file with the line, or the variable
}

// SettingList holds settings in the order of the manual.
type SettingList struct {
	Schema   int       `json:"schema"`
	Settings []Setting `json:"settings"`
}

// ConfigPath tells where the configuration file is, or would be.
type ConfigPath struct {
	Schema int    `json:"schema"`
	Path   string `json:"path"`
}

// The levels of a Finding.
const (
	LevelOK   = "ok"
	LevelNote = "note" // good to know
	LevelWarn = "warn" // it works, and not as it should
	LevelFail = "fail" // it does not work
)

// Finding is what a look at one thing has shown.
type Finding struct {
	Level string `json:"level"`
	What  string `json:"what"` // fuse, data, disk, clock, …, or a folder
	Text  string `json:"text"`
	Cure  string `json:"cure,omitempty"` // what to do, often a command
}

// Findings is all that was looked at.
type Findings struct {
	Schema   int       `json:"schema"`
	Findings []Finding `json:"findings"`
}
