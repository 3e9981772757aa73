package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/clachanfs/clachan/peers/wire"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// testApp is an app whose output is kept, and which finds no daemon.
func testApp(t *testing.T) (a *app, output func() (stdout, stderr string)) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a = newApp()
	a.env = func(k string) string { return map[string]string{"CLACHAN_HOME": dir}[k] }
	a.stdin, a.stdout, a.stderr = file("in"), file("out"), file("err")
	return a, func() (string, string) {
		out, err := os.ReadFile(a.stdout.Name())
		errText, err2 := os.ReadFile(a.stderr.Name())
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return string(out), string(errText)
	}
}

func TestCommandLines(t *testing.T) {
	tests := []struct {
		line string
		code control.Code
		says string // on stderr
	}{
		{"stauts", control.Usage, `did you mean "status"?`},
		{"ini", control.Usage, `did you mean "init"?`},
		{"unmuont x", control.Usage, `did you mean "umount"?`},
		{"qqqqqqqq", control.Usage, "clachan --help"},
		{"db", control.Usage, "db what?"},
		{"db chek", control.Usage, `did you mean "check"?`},
		{"list extra", control.Usage, ""},
		{"init", control.Usage, ""},
		{"mount a b c", control.Usage, ""},
		{"umount", control.Usage, ""},
		{"umount --stale x", control.Usage, ""},
		{"wait --timeout never", control.Usage, "never"},
		{"wait --timeout -1s", control.Usage, ""},
		{"invite a --role king", control.Usage, "king"},
		{"invite a --uses 0", control.Usage, "one use"},
		{"invite a --expires 0s", control.Usage, ""},
		{"join ticket", control.Usage, "ticket"},
		{"up x --join ticket", control.Usage, "ticket"},
		{"list --nonsense", control.Usage, "nonsense"},
		{"--home x --system daemon", control.State, "exclude"},
		{"daemon --listen example.org:1", control.Usage, "not an IP address"},
		{"list", control.NoDaemon, "clachan: no daemon is running (start it with: clachan up DIR, or systemctl --user start clachan)\n"},
		{"init a --at x", control.NoDaemon, ""},
		{"status --json", control.NoDaemon, ""},
		{"events --json", control.NoDaemon, ""},
		{"top", control.NoDaemon, ""},
		{"evnts", control.Usage, `did you mean "events"?`},
		{"events --since soon", control.Usage, "soon"},
		{"status --color sometimes", control.Usage, "auto, always or never"},
		{"status --timeout soon", control.Usage, "soon"},
		{"help json", control.OK, ""},
		{"help exit-codes", control.OK, ""},
		{"db check", control.NoDaemon, ""},
		{"version", control.OK, ""},
		{"help", control.OK, ""},
		{"", control.OK, ""},
		{"completion fish", control.OK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			a, output := testApp(t)
			root := newRoot(a)
			root.SetArgs(strings.Fields(tt.line))
			root.SetOut(io.Discard)
			code := a.exitCode(t.Context(), root.ExecuteContext(t.Context()))
			stdout, stderr := output()
			if code != int(tt.code) || !strings.Contains(stderr, tt.says) {
				t.Errorf("exit code %d, want %d; stderr %q", code, tt.code, stderr)
			}
			if tt.code != control.OK && stdout != "" {
				t.Errorf("a failure wrote to stdout: %q", stdout)
			}
			if tt.code != control.OK && strings.Count(stderr, "\n") != 1 {
				t.Errorf("a failure is not one line: %q", stderr)
			}
		})
	}
}

func TestEveryVerbHasHelpAndAnExample(t *testing.T) {
	var visit func(c *cobra.Command)
	a, _ := testApp(t)
	root := newRoot(a)
	visit = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s: no short help", c.CommandPath())
		}
		if c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s: no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// Every verb either answers in JSON what is in the schema, or has nothing to say: adding one
// means to say which.
func TestEveryVerbThatPrintsHasASchema(t *testing.T) {
	const nothing, text = "nothing", "text"
	prints := map[string]string{
		"status": "status", "top": "status", "events": "events", "list": "list", "init": "init", "join": "join", "up": "invite", "mount": "mount",
		"umount": "umount", "gone": "gone", "invite": "invite", "peers": "peers", "id": "id", "db check": "check", "version": "version",
		"doctor": "doctor", "config get": "config", "db version": "version", "db checkpoint": "checkpoint", "scrub": "scrubs", "support": "support",
		"leave": nothing, "wait": nothing, "config set": nothing, "config edit": nothing, "daemon": nothing, // and logs
		"service install": nothing, "service uninstall": nothing, // they say what they do on stderr
		"man": text, "demo": text, "help": text, "config path": text, // made for people, or for a shell
		"completion bash": text, "completion zsh": text, "completion fish": text, "completion powershell": text,
	}
	answers := map[string]bool{nothing: true, text: true}
	for _, x := range control.Answers {
		answers[x.Name] = true
	}
	a, _ := testApp(t)
	root := newRoot(a)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		verb := strings.TrimPrefix(c.CommandPath(), "clachan ")
		if c.HasSubCommands() || c.IsAdditionalHelpTopicCommand() || c == root {
			return
		}
		if !answers[prints[verb]] {
			t.Errorf("%s prints %q, which is not in control.Answers", verb, prints[verb])
		}
		delete(prints, verb)
	}
	visit(root)
	if len(prints) > 0 {
		t.Errorf("there are no such verbs: %v", prints)
	}
}

// What can be said on the command line is in the help, in the manual and in what shells complete.
func TestEveryVerbAndFlagIsInHelpManualAndCompletion(t *testing.T) {
	dir := t.TempDir()
	a, _ := testApp(t)
	root := newRoot(a)
	root.InitDefaultHelpCmd()
	if err := writeMan(root, dir); err != nil {
		t.Fatal(err)
	}
	complete := func(words ...string) string {
		t.Helper()
		a, _ := testApp(t)
		root := newRoot(a)
		var out strings.Builder
		root.SetOut(&out)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, words...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return "\n" + out.String()
	}
	verbs, flags := 0, 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		page, err := os.ReadFile(filepath.Join(dir, "man1", strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Fatal(err)
		}
		manual := strings.ReplaceAll(string(page), "\\-", "-")
		help := c.UsageString()
		words := strings.Fields(c.CommandPath())[1:]
		offered := complete(append(words, "--")...)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			flags++
			for where, text := range map[string]string{"help": help, "manual": manual, "completion": offered} {
				if !strings.Contains(text, "--"+f.Name) {
					t.Errorf("%s --%s is not in the %s", c.CommandPath(), f.Name, where)
				}
			}
		})
		offered = complete(append(words, "")...)
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			verbs++
			for where, text := range map[string]string{"help": help, "manual": manual, "completion": offered} {
				if !strings.Contains(text, sub.Name()) {
					t.Errorf("%s is not in the %s of %s", sub.Name(), where, c.CommandPath())
				}
			}
			visit(sub)
		}
	}
	visit(root)
	if verbs < 20 || flags < 30 {
		t.Errorf("%d verbs and %d flags were looked at", verbs, flags)
	}
	toml, err := os.ReadFile(filepath.Join(dir, "man5", "clachan.toml.5"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings {
		if !strings.Contains(string(toml), s.Key) || !strings.Contains(strings.ReplaceAll(string(toml), "\\_", "_"), s.Env()) {
			t.Errorf("%s is not in the manual", s.Key)
		}
	}
}

func TestTheHelperLeavesAsideWhatIsNotItsOwn(t *testing.T) {
	got := helperOptions([]string{"rw,noatime,x-systemd.requires=clachan.service", "X-mount.mkdir,comment=x,,uid=7"})
	if want := []string{"rw", "noatime", "uid=7"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := helperOptions([]string{"x-systemd.automount"}); got != nil {
		t.Errorf("none are %q: the folder's own would be lost", got)
	}
}

func TestTheHelperExitsAsMountSays(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"photos", helperUsage, "accepts 2 arg"}, {"photos /mnt -Q", helperUsage, "unknown shorthand"},
		{"photos /mnt", helperFailed, "x-systemd.requires=clachan.service"}, {"photos /mnt -sfnv -o rw,x-systemd.automount", 0, ""},
	} {
		a, output := testApp(t)
		got := a.helper(t.Context(), strings.Fields(tt.args))
		if _, says := output(); got != tt.code || !strings.Contains(says, tt.says) {
			t.Errorf("%s: %d, want %d: %s", tt.args, got, tt.code, says)
		}
	}
}

// The file that the package brings says what there is, and its lines are right without their signs.
func TestThePackagedSettingsAreAllThereAre(t *testing.T) {
	text, err := os.ReadFile("../../contrib/package/clachan.toml")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " = ") || strings.HasPrefix(line, "# [") {
			line = strings.TrimPrefix(line, "# ")
		}
		lines = append(lines, line)
	}
	places := config.Places{Config: filepath.Join(t.TempDir(), "clachan.toml"), Mounts: "/m"}
	if err := os.WriteFile(places.Config, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, origins, err := config.Explain(places, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	for key, origin := range origins {
		if origin == "default" {
			t.Errorf("%s is not in it", key)
		}
	}
}

func TestExitCodes(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		ctx  context.Context
		err  error
		code int
	}{
		{t.Context(), nil, 0},
		{t.Context(), errors.New("any"), 1},
		{t.Context(), fmt.Errorf("join: %w", trust.ErrTicket), 2},
		{t.Context(), &config.Error{Source: "f", Line: 1, Text: "bad"}, 3},
		{t.Context(), fmt.Errorf("open: %w", trust.ErrIdentity), 3},
		{t.Context(), fmt.Errorf("open: %w", blocks.ErrLocked), 3},
		{t.Context(), &control.Error{Code: control.NoDaemon, Message: "none"}, 4},
		{t.Context(), trust.ErrNoFolder, 5},
		{t.Context(), trust.ErrTicketUsed, 6},
		{t.Context(), trust.ErrTicketExpired, 6},
		{t.Context(), trust.ErrTicketRevoked, 6},
		{t.Context(), trust.ErrRole, 6},
		{t.Context(), &control.Error{Code: control.Attention}, 7},
		{t.Context(), control.Errorf(control.Offline, "nobody"), 8},
		{t.Context(), fmt.Errorf("wait: %w", context.DeadlineExceeded), 9},
		{t.Context(), fmt.Errorf("open: %w", blocks.ErrNewerFormat), 10},
		{t.Context(), fmt.Errorf("join: %w", wire.ErrVersion), 10},
		{t.Context(), fmt.Errorf("read: %w", blocks.ErrDamaged), 11},
		{cancelled, context.Canceled, 130},
	}
	for _, tt := range tests {
		a, output := testApp(t)
		a.started = true
		if got := a.exitCode(tt.ctx, tt.err); got != tt.code {
			_, stderr := output()
			t.Errorf("%v: exit code %d, want %d (%s)", tt.err, got, tt.code, stderr)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"list", "list", 0}, {"lsit", "list", 1}, {"inti", "init", 1}, {"mount", "umount", 1}, {"abc", "xyz", 3}}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestDetachedDaemonIsTheSameInstance(t *testing.T) {
	a, _ := testApp(t)
	a.flags = config.Flags{Home: "rel", Config: "/c", Socket: "/s"}
	a.verbose = true
	got := strings.Join(a.daemonArgs(daemonFlags{listen: []string{":1", ":2"}, noDiscovery: true}), " ")
	rel, err := filepath.Abs("rel")
	if err != nil {
		t.Fatal(err)
	}
	want := "daemon --home " + rel + " --config /c --socket /s --listen :1 --listen :2 --verbose --no-discovery"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatTakesLongEndsWhenTheDaemonHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it never accepts
	for _, args := range [][]string{{"umount", "notes"}, {"db", "check"}, {"wait", "notes"}} {
		a := newApp()
		root := newRoot(a)
		root.SetArgs(append([]string{"--socket", path}, args...))
		a.timeout = 50 * time.Millisecond // no flag sets it anew
		err := root.ExecuteContext(t.Context())
		if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.Timeout {
			t.Errorf("%q: %v", args, err)
		}
	}
}
