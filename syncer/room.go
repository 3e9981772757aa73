package syncer

// Room returns ErrFull when the disk is so full that nothing more is taken in.
func (f *Folder) Room() error { return f.Grant(0) }

// Grant returns nil when n bytes may be written to the disk, or ErrFull.
func (f *Folder) Grant(n int64) error {
	f.disk.Short() // wakes the expirer, if it is
	return f.disk.Grant(n)
}

// Reserve is how many bytes of the disk are kept free.
func (f *Folder) Reserve() int64 { return f.disk.Reserve() }

// roomForRows returns ErrFull when nothing but what Pebble may need is left.
func (f *Folder) roomForRows() error {
	f.disk.Short()
	return f.disk.RoomForRows()
}

// Usage is the size of the disk, what is free of it for files, and how many
// inodes there are room for.
func (f *Folder) Usage() (total, free int64, err error) {
	total, free, _, err = f.disk.Usage()
	return total, free, err
}
