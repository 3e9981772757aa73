package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clachanfs/clachan/blocks"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"clachan": main})
}

// patience bounds every wait of a script: nothing takes this long unless it
// will never happen.
const patience = 60 * time.Second

// TestScripts runs the real binary, with real mounts and several homes, on
// loopback addresses.
func TestScripts(t *testing.T) {
	needMounts(t)
	p := scripts()
	p.Dir = "testdata/script"
	testscript.Run(t, p)
}

// fixture is where to write a data folder as this release does, for package
// daemon to open ever after.
var fixture = flag.String("write-fixture", "", "write a fixture of the formats to `FILE`")

// TestWriteFixture is run once a release that changes a format:
//
//	go test ./cmd/clachan -run TestWriteFixture -args -write-fixture ../internal/daemon/testdata/0.1.tar.zst
//	go test ./cmd/internal/daemon -run TestStoresOfReleases -args -write
func TestWriteFixture(t *testing.T) {
	if *fixture == "" {
		t.Skip("no -write-fixture FILE")
	}
	needMounts(t)
	path, err := filepath.Abs(*fixture)
	if err != nil {
		t.Fatal(err)
	}
	p := scripts()
	p.Files = []string{"testdata/fixture.txtar"}
	p.Cmds["pack"], p.Cmds["stamp"] = cmdPack, cmdStamp
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("FIXTURE", path)
		return setup(env)
	}
	testscript.Run(t, p)
}

// stamp FILE SIZE TIMES writes the same noise again and again, each time with
// another stamp on every piece: blocks that do not compress, each for itself, and do
// together.
func cmdStamp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: stamp FILE SIZE TIMES")
	}
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	times, err := strconv.Atoi(args[2])
	ts.Check(err)
	noise := make([]byte, size)
	_, err = io.ReadFull(newNoise(1), noise)
	ts.Check(err)
	var out []byte
	for n := range times {
		for i := 0; i < size; i += 4096 {
			noise[i] = byte(n)
		}
		out = append(out, noise...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out, 0o644))
}

// pack DIR FILE makes an archive.
func cmdPack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pack DIR FILE")
	}
	f, err := os.Create(args[1])
	ts.Check(err)
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	ts.Check(err)
	w := tar.NewWriter(z)
	ts.Check(errors.Join(w.AddFS(os.DirFS(args[0])), w.Close(), z.Close(), f.Close()))
}

// scripts are the commands of our own that scripts can use.
func scripts() testscript.Params {
	return testscript.Params{
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setup,
		Condition: func(name string) (bool, error) {
			if name != "ci" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Getenv("CI") == "true", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":     cmdStart,
			"quit":      cmdQuit,
			"crash":     cmdCrash,
			"code":      cmdCode,
			"save":      cmdSave,
			"same":      cmdSame,
			"until":     cmdUntil,
			"tmpfs":     cmdTmpfs,
			"mounted":   cmdMounted,
			"fill":      cmdFill,
			"orphan":    cmdOrphan,
			"appendto":  cmdAppend,
			"launch":    cmdLaunch,
			"interrupt": cmdInterrupt,
			"terminate": cmdTerminate,
			"hangup":    cmdHangup,
			"newer":     cmdNewer,
			"logged":    cmdLogged,
			"scrape":    cmdScrape,
			"shown":     cmdShown,
			"discreet":  cmdDiscreet,
			"damage":    cmdDamage,
		},
	}
}

// needMounts skips where no filesystem can be mounted, but not where that
// would hide that nothing was tested.
func needMounts(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "mounting in these tests needs root"
	} else if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		why = fmt.Sprintf("no FUSE: %v", err)
	} else {
		f.Close()
	}
	switch {
	case why == "":
	case os.Getenv("CI") == "true":
		t.Fatal(why)
	default:
		t.Skip(why)
	}
}

// procs are the daemons of one script.
type procs struct {
	byName map[string]*proc
}

type proc struct {
	cmd    *exec.Cmd
	stderr *output
	done   chan struct{} // closed when it has ended
	err    error         // how, after done
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

type procsKey struct{}

// setup gives a script an environment without anything of the user's, and
// leaves neither processes nor mounts behind.
func setup(env *testscript.Env) error {
	// Socket paths and mountinfo are easier to read without symlinks.
	dir, err := filepath.EvalSymlinks(env.WorkDir)
	if err != nil {
		return err
	}
	for _, v := range []string{
		"HOME=" + filepath.Join(dir, "user"), "CLACHAN_HOME=", "CLACHAN_SOCKET=", "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "CLACHAN_LOG=debug", "CLACHAN_DEVICE=", "NO_COLOR=1",
		"QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=1",
	} {
		name, value, _ := strings.Cut(v, "=")
		env.Setenv(name, value)
	}
	all := &procs{byName: map[string]*proc{}}
	env.Values[procsKey{}] = all
	env.Defer(func() {
		for _, p := range all.byName {
			p.cmd.Process.Signal(syscall.SIGKILL) // ends in any case
			<-p.done
		}
		for _, m := range mountsBelow(dir) {
			unix.Unmount(m, unix.MNT_DETACH)
		}
	})
	return nil
}

// mountsBelow lists mount points below dir, the deepest first.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			found = append([]string{f[4]}, found...)
		}
	}
	return found
}

func (ps *procs) get(ts *testscript.TestScript, name string) *proc {
	p := ps.byName[name]
	if p == nil {
		ts.Fatalf("no process %q", name)
	}
	return p
}

func script(ts *testscript.TestScript) *procs { return ts.Value(procsKey{}).(*procs) }

// launch starts a command of which the first line of stdout is waited for.
func (ps *procs) launch(ts *testscript.TestScript, name string, cmd *exec.Cmd) string {
	if _, ok := ps.byName[name]; ok {
		ts.Fatalf("%s runs already", name)
	}
	p := &proc{cmd: cmd, stderr: new(output), done: make(chan struct{})}
	cmd.Stderr = p.stderr
	stdout, w, err := os.Pipe()
	ts.Check(err)
	cmd.Stdout = w
	ts.Check(cmd.Start())
	w.Close()
	ps.byName[name] = p
	line := make(chan string, 1)
	go func() {
		r := bufio.NewReader(stdout)
		text, _ := r.ReadString('\n') // an early end is seen by what is read
		line <- text
		io.Copy(io.Discard, r)
	}()
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	select {
	case text := <-line:
		if text == "" {
			<-p.done
			ts.Fatalf("%s ended with %v:\n%s", name, p.err, p.stderr)
		}
		return strings.TrimSuffix(text, "\n")
	case <-time.After(patience):
		ts.Fatalf("%s says nothing", name)
		return ""
	}
}

func command(ts *testscript.TestScript, args ...string) *exec.Cmd {
	exe, err := exec.LookPath("clachan")
	ts.Check(err)
	cmd := exec.Command(exe, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"HOME", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "CLACHAN_LOG", "NO_COLOR", "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "CLACHAN_HOME"} {
		cmd.Env = append(cmd.Env, v+"="+ts.Getenv(v))
	}
	return cmd
}

// start HOME [ARG...] runs the daemon of the home until it is ready. The
// device is called as the home is.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: start HOME [ARG...]")
	}
	cmd := command(ts, append([]string{"daemon", "--home", args[0], "--listen", "127.0.0.1:0", "--no-discovery"}, args[1:]...)...)
	cmd.Env = append(cmd.Env, "CLACHAN_DEVICE="+filepath.Base(args[0]))
	if line := script(ts).launch(ts, args[0], cmd); line != "ready" {
		ts.Fatalf("the daemon printed %q, not ready", line)
	}
}

// quit HOME sends SIGTERM and wants exit code 0. (Of its name stop, a script that uses it would end there: testscript has one.)
func cmdQuit(ts *testscript.TestScript, neg bool, args []string) {
	end(ts, args, syscall.SIGTERM)
	p := script(ts).get(ts, args[0])
	if p.err != nil {
		ts.Fatalf("%s ended with %v:\n%s", args[0], p.err, p.stderr)
	}
	delete(script(ts).byName, args[0])
}

// crash HOME sends SIGKILL.
func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	end(ts, args, syscall.SIGKILL)
	delete(script(ts).byName, args[0])
}

func end(ts *testscript.TestScript, args []string, sig os.Signal) {
	if len(args) != 1 {
		ts.Fatalf("want one HOME")
	}
	p := script(ts).get(ts, args[0])
	ts.Check(p.cmd.Process.Signal(sig))
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s does not end", args[0])
	}
}

// code N CMD [ARG...] runs a command that must exit with N. Its output can be
// looked at afterwards.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// save VAR CMD [ARG...] keeps what a command prints in a variable.
func cmdSave(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: save VAR CMD [ARG...]")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// until CMD [ARG...] runs a command again until it succeeds.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] until CMD [ARG...]")
	}
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("in vain: %v", err)
		}
		time.Sleep(pause)
	}
}

// same FILE FILE compares bytes.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same FILE FILE")
	}
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if bytes.Equal(a, b) == neg {
		ts.Fatalf("%s has %d bytes, %s has %d; equal: %v", args[0], len(a), args[1], len(b), neg)
	}
}

// appendto FILE TEXT appends a line.
func cmdAppend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: appendto FILE TEXT")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	_, err = fmt.Fprintln(f, args[1])
	ts.Check(errors.Join(err, f.Close()))
}

// newer HOME makes the store one of the next format.
func cmdNewer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer HOME")
	}
	disk, err := blocks.OpenDisk(vfs.Default, filepath.Join(args[0], "data"), blocks.DiskOptions{Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ts.Check(errors.Join(disk.Meta().Set([]byte("\x00\x00\x00\x00K"), []byte{blocks.Format + 1}, pebble.Sync), disk.Close()))
}

// tmpfs DIR SIZE mounts a small filesystem.
func cmdTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tmpfs DIR SIZE")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// mounted DIR looks for a mount of ours at DIR.
func cmdMounted(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] mounted DIR")
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	ts.Check(err)
	found := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		found = found || (len(f) > 4 && f[4] == ts.MkAbs(args[0]) && strings.Contains(line, " fuse.clachan "))
	}
	if found == neg {
		ts.Fatalf("mounted: %v", found)
	}
}

// fill FILE SIZE writes bytes that do not compress, and with ! wants that to
// fail for want of space.
func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] fill FILE SIZE")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	err = fill(ts.MkAbs(args[0]), size)
	switch {
	case neg && !errors.Is(err, syscall.ENOSPC):
		ts.Fatalf("filling %s: %v, want no space left", args[0], err)
	case !neg:
		ts.Check(err)
	}
}

func fill(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(newNoise(uint64(size)), size))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// noise is a reproducible stream that neither compresses nor repeats.
type noise struct{ x uint64 }

func newNoise(seed uint64) *noise { return &noise{seed | 1} }

func (n *noise) Read(p []byte) (int, error) {
	for i := range p {
		n.x ^= n.x << 13
		n.x ^= n.x >> 7
		n.x ^= n.x << 17
		p[i] = byte(n.x >> 32)
	}
	return len(p), nil
}

// launch NAME ARG... runs clachan in the background and waits for a line of
// its stdout, which is then in $LINE.
func cmdLaunch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: launch NAME ARG...")
	}
	ts.Setenv("LINE", script(ts).launch(ts, args[0], command(ts, args[1:]...)))
}

// interrupt NAME is Ctrl-C for what was launched, and wants exit code 0.
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	end(ts, args, syscall.SIGINT)
	p := script(ts).get(ts, args[0])
	if p.err != nil {
		ts.Fatalf("%s ended with %v:\n%s", args[0], p.err, p.stderr)
	}
	delete(script(ts).byName, args[0])
}

// terminate HOME sends SIGTERM to a daemon that nobody here started, as its
// lock file names it, and waits for its end.
func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: terminate HOME")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(filepath.Join(args[0], "data", "lock"))))
	ts.Check(err)
	ts.Check(unix.Kill(pid, unix.SIGTERM))
	awaitEnd(ts, pid)
}

// hangup HOME sends SIGHUP.
func cmdHangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hangup HOME")
	}
	ts.Check(script(ts).get(ts, args[0]).cmd.Process.Signal(unix.SIGHUP))
}

// awaitEnd waits for the end of a process that is no child of this one.
func awaitEnd(ts *testscript.TestScript, pid int) {
	deadline := time.Now().Add(patience)
	for unix.Kill(pid, 0) == nil && !isZombie(pid) {
		if time.Now().After(deadline) {
			unix.Kill(pid, unix.SIGKILL)
			ts.Fatalf("process %d does not end", pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// orphan NAME CMD [ARG...] runs clachan below a shell that is then killed, and
// wants it to end by itself.
func cmdOrphan(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: orphan NAME ARG...")
	}
	exe, err := exec.LookPath("clachan")
	ts.Check(err)
	cmd := command(ts, args[1:]...)
	cmd.Args = append([]string{"sh", "-c", `"$@"; :`, "sh", exe}, args[1:]...)
	cmd.Path, err = exec.LookPath("sh")
	ts.Check(err)
	ps := script(ts)
	ps.launch(ts, args[0], cmd)
	child := childOf(ts, cmd.Process.Pid)
	ts.Check(cmd.Process.Signal(syscall.SIGKILL))
	awaitEnd(ts, child)
	<-ps.byName[args[0]].done
	delete(ps.byName, args[0])
}

// childOf finds the one child of a process.
func childOf(ts *testscript.TestScript, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	ts.Check(err)
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	ts.Check(err)
	return child
}

// isZombie reports whether a process has ended and nobody asked how: what
// becomes of orphans is up to the machine.
func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}
