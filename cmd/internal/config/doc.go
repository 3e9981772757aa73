// Package config says where an instance of clachan keeps its things and what
// the settings of its daemon are.
//
// # Places
//
// One instance is one configuration file, one data folder and one API socket.
// There are three layouts:
//
//	home    DIR/clachan.toml, DIR/api.sock, DIR/data     --home or CLACHAN_HOME
//	system  /etc/clachan, /var/lib/clachan, /run/clachan --system, or systemd's
//	        directory variables, each of which is honoured by itself
//	user    the XDG directories                          everybody else, root too
//
// The data folder holds identity, meta, blocks, staging, ballast and lock.
// A client looks for a socket in the order of [Sockets]; a place that was
// named is the only one tried.
//
// # Settings
//
// The file is small and edited by hand; everything that commands change lives
// in the data folder. A setting comes from, in this order: the flag, the
// environment (CLACHAN_SECTION_KEY), the file, the default. An unknown key, a
// wrong type or a wrong value is an error that names the file and the line:
// a setting that is quietly ignored is worse than a daemon that does not start.
package config
