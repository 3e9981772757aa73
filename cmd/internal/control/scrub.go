package control

import "time"

// ScrubRequest asks for some blocks of a folder to be read and verified, from
// where the last one ended.
type ScrubRequest struct {
	Folder string        `json:"folder"`
	Repair bool          `json:"repair"` // fetch what is damaged from members
	Known  bool          `json:"known"`  // first look at what is known to be damaged
	For    time.Duration `json:"for"`    // about so long, nanoseconds
}

// ScrubReport tells what a scrub has done.
type ScrubReport struct {
	Schema   int     `json:"schema,omitempty"` // where it is the whole answer
	Folder   string  `json:"folder"`
	Blocks   uint64  `json:"blocks"` // read and verified
	Bytes    uint64  `json:"bytes"`
	Damaged  uint64  `json:"damaged"`
	Repaired uint64  `json:"repaired"` // of these
	At       float64 `json:"at"`       // from 0 to 1: how far this round is
	Done     bool    `json:"done"`     // all blocks have been verified
}

// LackingRequest asks which files lack blocks that are damaged or lost here.
type LackingRequest struct {
	Folder string `json:"folder"`
}

// Lacking tells of them.
type Lacking struct {
	Schema int      `json:"schema,omitempty"`
	Files  []string `json:"files"`
	Past   []string `json:"past"` // files that have versions in the history which do
	More   bool     `json:"more"` // than are told
	Away   int      `json:"away"` // members that are not connected, and may have them
}

// Scrubs tells what became of folders.
type Scrubs struct {
	Schema  int        `json:"schema"`
	Folders []Scrubbed `json:"folders"`
}

// Scrubbed is what became of one; if something is damaged still, with what lacks it.
type Scrubbed struct {
	ScrubReport
	*Lacking
}

// Supported tells of a bundle that was made.
type Supported struct {
	Schema int          `json:"schema"`
	File   string       `json:"file"`
	Parts  []BundlePart `json:"parts"`
}

// BundlePart is one file of a bundle, or what it lacks.
type BundlePart struct {
	Name string `json:"name"`
	What string `json:"what"`
	Size int    `json:"size"`
	Lack string `json:"lack,omitempty"` // why it is not there
}
