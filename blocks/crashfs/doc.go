// Package crashfs is a filesystem in memory that can lose its power, for tests.
//
// An FS is Pebble's crashable MemFS: what was not synced when it is cloned by
// CrashClone may be missing in the clone. The clone shares nothing with it, and
// both can be used on. Only MemFS.Link, which deadlocks beside CrashClone, is
// replaced by one that waits for it.
//
// Lock order: FS.mu before the lock of MemFS.
package crashfs
