package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func env(pairs ...string) Env {
	m := map[string]string{"HOME": "/home/ana"}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

// load reads text as the configuration file of an instance.
func load(t *testing.T, text string, e Env) (Config, error) {
	t.Helper()
	p := Places{Config: filepath.Join(t.TempDir(), "clachan.toml"), Mounts: "/home/ana/Clachan"}
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(p, e)
}

func TestEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	text := `
listen = ["127.0.0.1:0"]
discovery = false
device = "desk"

[log]
level = "warn"
format = "json"
`
	got, err := load(t, text, env("CLACHAN_DEVICE", "laptop", "CLACHAN_LOG_LEVEL", "debug", "CLACHAN_LISTEN", "127.0.0.1:1,[::1]:1"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen: []string{"127.0.0.1:1", "[::1]:1"}, Device: "laptop", Mounts: "/home/ana/Clachan", MetricsTo: "this-machine",
		Log: Log{Level: "debug", Format: "json"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestMissingFileGivesDefaults(t *testing.T) {
	got, err := Load(Places{Config: filepath.Join(t.TempDir(), "none.toml"), Mounts: "/m"}, env())
	if err != nil {
		t.Fatal(err)
	}
	if got.Device == "" || !got.Discovery || len(got.Listen) != 0 || got.Log.Level != "info" {
		t.Errorf("defaults are %+v", got)
	}
}

func TestMistakesNameTheLine(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		says       string
	}{
		{"syntax", "device = \"a\"\nlisten = [\n\ndevice =", 4, ""},
		{"unknown key", "device = \"a\"\ndevise = \"b\"\n", 2, `unknown key "devise"`},
		{"unknown key in a table", "\n[log]\nlevel = \"info\"\ncolour = true\n", 4, `unknown key "log.colour"`},
		{"unknown table", "device = \"a\"\n\n[web]\nport = 1\n", 3, `unknown key "web`},
		{"wrong type", "\ndiscovery = \"yes\"\n", 2, "bool"},
		{"host name to listen on", "listen = [\"example.org:1\"]\n", 1, "not an IP address"},
		{"no port", "\nlisten = [\"127.0.0.1\"]\n", 2, "HOST:PORT"},
		{"port out of range", "listen = [\":70000\"]\n", 1, "65535"},
		{"log level", "[log]\nlevel = \"loud\"\n", 2, `"loud"`},
		{"log format", "[log]\nformat = \"xml\"\n", 2, `"xml"`},
		{"relative mounts", "mounts = \"here\"\n", 1, "absolute"},
		{"metrics for everybody", "\nmetrics = \"0.0.0.0:9\"\n", 2, `metrics_to = "anybody"`},
		{"metrics at every address", "metrics = \":9\"\n", 1, "127.0.0.1"},
		{"metrics without a port", "metrics = \"127.0.0.1\"\n", 1, "HOST:PORT"},
		{"metrics to whom", "metrics = \"127.0.0.1:9\"\nmetrics_to = \"all\"\n", 2, `"all"`},
		{"device with a colon", "device = \"a:b\"\n", 1, "a:b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text, env())
			bad, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %v, want a config.Error", err)
			}
			if bad.Line != tt.line || !strings.Contains(bad.Text, tt.says) {
				t.Errorf("line %d %q, want line %d and %q", bad.Line, bad.Text, tt.line, tt.says)
			}
		})
	}
}

func TestMetricsGoWhereTheyMay(t *testing.T) {
	for _, text := range []string{
		`metrics = "127.0.0.1:0"`, `metrics = "[::1]:22171"`, `metrics = ""`, "metrics = \"0.0.0.0:9\"\nmetrics_to = \"anybody\"",
	} {
		if _, err := load(t, text, env()); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := load(t, "", env("CLACHAN_METRICS", ":9", "CLACHAN_METRICS_TO", "anybody")); err != nil {
		t.Error(err)
	}
}

func TestMistakesNameTheVariable(t *testing.T) {
	for _, pair := range [][2]string{
		{"CLACHAN_DISCOVERY", "perhaps"}, {"CLACHAN_LISTEN", "nowhere"}, {"CLACHAN_LOG", "loud"}, {"CLACHAN_MOUNTS", "x"},
	} {
		_, err := load(t, "", env(pair[0], pair[1]))
		if bad, ok := errors.AsType[*Error](err); !ok || bad.Source != pair[0] {
			t.Errorf("%s=%s: error is %v", pair[0], pair[1], err)
		}
	}
}

func TestHugeFileIsRefused(t *testing.T) {
	if _, err := load(t, strings.Repeat("#", maxFile+1), env()); err == nil {
		t.Error("a file beyond the bound was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("listen = [\"127.0.0.1:0\"]\n[log]\nlevel = \"debug\"\n")
	f.Add("[a.b]\n\"c\" = 1")
	f.Add("= = =")
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{Mounts: "/m", Log: Log{Level: "info", Format: "auto"}}
		if _, err := c.parse("f", text); err == nil && c.Validate() != nil {
			t.Errorf("accepted %q, which does not validate", text)
		}
	})
}
