package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const written = `# by hand
device = "desk" # mine
listen = ["127.0.0.1:0"]

# what it says
[log]
  level="warn"    # not much
`

func TestSetChangesOneLineAndKeepsTheRest(t *testing.T) {
	for _, tt := range []struct{ key, value, text, want string }{
		{"device", "lap top", written, strings.Replace(written, `"desk" # mine`, `"lap top" # mine`, 1)},
		{"device", `a "b" # c`, written, strings.Replace(written, `"desk" # mine`, `"a \"b\" # c" # mine`, 1)},
		{"log.level", "debug", written, strings.Replace(written, `  level="warn"    # not`, `  level = "debug"    # not`, 1)},
		{"log.names", "true", written, written + "names = true\n"},
		{"discovery", "false", written, strings.Replace(written, "]\n\n", "]\ndiscovery = false\n\n", 1)},
		{"listen", "[::1]:1,0.0.0.0:2", written, strings.Replace(written, `["127.0.0.1:0"]`, `["[::1]:1", "0.0.0.0:2"]`, 1)},
		{"log.level", "debug", "", "\n[log]\nlevel = \"debug\"\n"},
		{"device", "x", "", "device = \"x\"\n"},
		{"device", "x", "[log]\nlevel = \"warn\"", "device = \"x\"\n[log]\nlevel = \"warn\"\n"},
		{"log.level", "error", `log.level = "warn"`, "log.level = \"error\"\n"},
		{"device", "b", `device = "a#b" # c`, "device = \"b\" # c\n"},
	} {
		got, err := Set(tt.text, tt.key, tt.value)
		if err != nil {
			t.Errorf("%s to %q: %v", tt.key, tt.value, err)
		} else if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s to %q: -want +got:\n%s", tt.key, tt.value, d)
		}
	}
}

func TestSetRefusesWhatWouldNotBeRead(t *testing.T) {
	for _, tt := range []struct{ key, value, text, says string }{
		{"devise", "x", written, "no setting"},
		{"log.level", "loud", written, "log level must be"},
		{"discovery", "maybe", written, "true or false"},
		{"mounts", "below", written, "absolute"},
		{"device", "x", "nonsense = 1\n", "unknown key"},
		{"listen", "[::1]:1", "listen = [\n\"127.0.0.1:0\",\n]\n", "clachan config edit"},
		{"log.level", "debug", `log = { level = "warn" }`, "clachan config edit"},
	} {
		if got, err := Set(tt.text, tt.key, tt.value); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s to %q: %q, %v, want %q", tt.key, tt.value, got, err, tt.says)
		}
	}
}

func TestEachSettingSaysWhereItComesFrom(t *testing.T) {
	p := Places{Config: filepath.Join(t.TempDir(), "clachan.toml"), Mounts: "/m"}
	if err := os.WriteFile(p.Config, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	c, origins, err := Explain(p, env("CLACHAN_DISCOVERY", "false", "CLACHAN_LOG", "error"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"listen": p.Config + ":3", "discovery": "CLACHAN_DISCOVERY", "device": p.Config + ":2", "mounts": "default",
		"metrics_to": "default", "metrics": "default", "log.level": "CLACHAN_LOG", "log.format": "default", "log.names": "default",
	}
	if d := cmp.Diff(want, origins); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if c.Discovery || c.Log.Level != "error" {
		t.Errorf("%+v", c)
	}
}

// What the settings are said to be, as an example, is what they may be.
func TestExamplesOfSettingsAreRight(t *testing.T) {
	for _, s := range Settings {
		table, name, in := strings.Cut(s.Key, ".")
		text := s.Key + " = " + s.Example
		if in {
			text = "[" + table + "]\n" + name + " = " + s.Example
		}
		if err := Check("example", text); err != nil {
			t.Error(err)
		}
	}
}
