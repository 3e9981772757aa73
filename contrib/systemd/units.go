// Package systemd holds the units that run clachan as a service.
//
//	system/clachan.service    of the machine: folders below /srv, data in /var/lib/clachan
//	user/clachan.service      of a user, from login on
//	*/clachan-scrub.timer     has clachan-scrub.service verify what is stored, once a week
package systemd

import "embed"

// Units holds system and user, each a directory of units whose program is [Program].
//
//go:embed system user
var Units embed.FS

// Program is what the units run.
const Program = "/usr/bin/clachan"
