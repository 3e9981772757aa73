package mount

import (
	"slices"
	"testing"
)

func TestOnlyDeadMountsOfOursAreStale(t *testing.T) {
	info := `36 35 98:0 / / rw - ext4 /dev/sda rw
40 36 0:50 / /home/ana/Shared rw,nosuid - fuse.clachan clachan:Shared rw,user_id=0
41 36 0:51 / /home/ana/my\040files rw,nosuid - fuse.clachan clachan:x rw,user_id=0
42 36 0:52 / /alive rw,nosuid - fuse.clachan clachan:y rw,user_id=0
43 36 0:53 / /others rw,nosuid - fuse.sshfs host:/ rw,user_id=0
`
	got := stale(parse(info), func(dir string) bool { return dir != "/alive" })
	if want := []string{"/home/ana/Shared", "/home/ana/my files"}; !slices.Equal(got, want) {
		t.Errorf("stale: %q, want %q", got, want)
	}
}
