package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/fs/mount"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func full() (State, error) {
	rtt, scrubbed := 2.5, time.Unix(1e9, 0)
	return State{
		Version: control.Version{Version: "1", Go: "go1", Format: 1, Protocol: 1},
		Status: control.Status{
			Folders: []control.FolderStatus{{Name: "notes", State: control.StateConflict, Files: 3, Conflicts: 1, Damaged: 2, Mounted: true, Scrubbed: &scrubbed}, {Name: "pics", State: control.StateSynced, OnlyHere: 2, Unheard: true}},
			Peers:   []control.PeerStatus{{ID: "x", Name: "nas", Online: true, RTT: &rtt, SentBytes: 7}, {ID: "y", Name: "nas"}},
		},
		Folders: []Folder{{
			Space: blocks.Space{Packs: 1, Bytes: 9, Garbage: 4},
			Ops:   []mount.Op{{Name: "read", Count: 40, Timed: 3, Took: 2 * time.Millisecond, Buckets: [len(mount.OpBuckets)]uint64{1, 1}}},
		}, {}},
		Meta: blocks.DBMetric{ReadAmp: 2, CacheHits: 5}, DiskTotal: 100, DiskFree: 50,
	}, nil
}

func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := testutil.CollectAndLint(Collector(full))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsTellTheState(t *testing.T) {
	want := `
# HELP clachan_folder_conflicts Conflict copies in the folder.
# TYPE clachan_folder_conflicts gauge
clachan_folder_conflicts{folder="notes"} 1
clachan_folder_conflicts{folder="pics"} 0
# HELP clachan_folder_damaged_blocks Blocks that are damaged here, of thousands not all.
# TYPE clachan_folder_damaged_blocks gauge
clachan_folder_damaged_blocks{folder="notes"} 2
clachan_folder_damaged_blocks{folder="pics"} 0
# HELP clachan_folder_only_here_files Files that no other member holds in full, at least; none is told of until a member has said what it has.
# TYPE clachan_folder_only_here_files gauge
clachan_folder_only_here_files{folder="notes"} 0
# HELP clachan_folder_scrub_timestamp_seconds When all stored blocks had last been read and verified.
# TYPE clachan_folder_scrub_timestamp_seconds gauge
clachan_folder_scrub_timestamp_seconds{folder="notes"} 1e+09
# HELP clachan_peer_rtt_seconds Round trip to the member.
# TYPE clachan_peer_rtt_seconds gauge
clachan_peer_rtt_seconds{name="nas",peer="x"} 0.0025
# HELP clachan_store_garbage_bytes Bytes in packs that nothing named when the last sweep had ended.
# TYPE clachan_store_garbage_bytes gauge
clachan_store_garbage_bytes{folder="notes"} 4
clachan_store_garbage_bytes{folder="pics"} 0
# HELP clachan_fuse_operations_total Operations that the kernel asked for.
# TYPE clachan_fuse_operations_total counter
clachan_fuse_operations_total{folder="notes",op="read"} 40
# HELP clachan_fuse_operation_duration_seconds How long operations took, of which one in sixteen is timed.
# TYPE clachan_fuse_operation_duration_seconds histogram
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="1.6e-05"} 1
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="6.4e-05"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.000256"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.001"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.004"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.016"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.064"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="0.256"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="1"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="4"} 2
clachan_fuse_operation_duration_seconds_bucket{folder="notes",op="read",le="+Inf"} 3
clachan_fuse_operation_duration_seconds_sum{folder="notes",op="read"} 0.002
clachan_fuse_operation_duration_seconds_count{folder="notes",op="read"} 3
`
	err := testutil.CollectAndCompare(Collector(full), strings.NewReader(want), "clachan_folder_conflicts", "clachan_folder_damaged_blocks", "clachan_folder_only_here_files", "clachan_folder_scrub_timestamp_seconds",
		"clachan_peer_rtt_seconds", "clachan_store_garbage_bytes", "clachan_fuse_operations_total", "clachan_fuse_operation_duration_seconds")
	if err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(Collector(full), "clachan_folder_state"); n != 2*len(control.States) {
		t.Errorf("%d states", n)
	}
}

func TestAStateThatCannotBeHadIsAnError(t *testing.T) {
	w := httptest.NewRecorder()
	Handler(func() (State, error) { return State{}, errors.New("no state") }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "no state") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOnlyWhoNamesTheAddressIsAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, full, slog.New(slog.DiscardHandler)) }()
	for host, want := range map[string]int{"": 200, "localhost:1": 200, "[::1]:1": 200, "[::1]": 200, "127.0.0.1": 200, "evil.example:22171": 403, "127.evil.example": 403} {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if told := strings.Contains(string(body), "notes"); err != nil || resp.StatusCode != want || told != (want == 200) {
			t.Errorf("host %q: %d, told %v, %v", host, resp.StatusCode, told, err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
