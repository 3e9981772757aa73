package syncer

import (
	"sync"
	"sync/atomic"

	"github.com/clachanfs/clachan/blocks/content"
)

// A part is how much of a file that is being fetched is here.
type part struct {
	all *atomic.Uint64 // bytes fetched of all files of the folder

	mu     sync.Mutex // guards what follows
	here   int64
	lacked int64 // by this look at what is missing
	came   int64 // since it began
	whole  bool  // it saw all of the file
}

// look begins a look at what is missing.
func (p *part) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacked, p.came, p.whole = 0, 0, true
}

// lacks notes a missing block. What is below a list block that is missing is not known.
func (p *part) lacks(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacked += size
	p.whole = p.whole && size != content.MaxList
}

// goesOn notes that a look ends before its end.
func (p *part) goesOn(yes bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = p.whole && yes
	return yes
}

// looked ends a look at a file of that size.
func (p *part) looked(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole {
		p.here = max(0, size-p.lacked+p.came)
	}
}

// got notes how the fetch of a block ended.
func (p *part) got(size int64, err error) error {
	if err == nil && size != content.MaxList {
		p.all.Add(uint64(size))
		p.mu.Lock()
		defer p.mu.Unlock()
		p.here += size
		p.came += size
	}
	return err
}

// part makes the part of a file.
func (f *Folder) part(ino Ino) *part {
	p := &part{all: &f.fetched}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts[ino] = p
	return p
}

func (f *Folder) forgetPart(ino Ino) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.parts, ino)
}

// partHere is how many bytes of a file are here that is not complete.
func (f *Folder) partHere(ino Ino) int64 {
	f.mu.Lock()
	p := f.parts[ino]
	f.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.here
}

// Fetched is how many bytes of files were fetched since the folder was opened.
func (f *Folder) Fetched() uint64 { return f.fetched.Load() }
