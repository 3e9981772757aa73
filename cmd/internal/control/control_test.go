package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve runs a server at path for the time of the test.
func serve(t *testing.T, path string, register func(*Server)) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(func(error) Code { return Other }, slog.New(slog.DiscardHandler))
	register(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOperationsTravel(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "api.sock"), filepath.Join(deep, "api.sock")} {
		t.Run(fmt.Sprint(len(path)), func(t *testing.T) {
			serve(t, path, func(s *Server) {
				Handle(s, InitFolder, func(_ context.Context, in InitRequest) (Folder, error) {
					return Folder{Name: in.Name, Dir: in.Dir, Options: in.Options}, nil
				})
			})
			got, err := InitFolder.Call(t.Context(), dial(t, path), InitRequest{Name: "n", Dir: "/d", Options: []string{"ro"}})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(Folder{Name: "n", Dir: "/d", Options: []string{"ro"}}, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			st, err := os.Lstat(path)
			if err != nil || st.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("socket has mode %v, error %v", st.Mode(), err)
			}
		})
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	var fail error
	serve(t, path, func(s *Server) {
		Handle(s, GetID, func(context.Context, None) (Identity, error) { return Identity{}, fail })
	})
	c := dial(t, path)
	tests := []struct {
		err  error
		want Error
	}{
		{Errorf(NotFound, "no folder %q", "x"), Error{NotFound, `no folder "x"`}},
		{fmt.Errorf("id: %w", Errorf(Denied, "no")), Error{Denied, "id: no"}},
		{errors.New("plain"), Error{Other, "plain"}},
	}
	for _, tt := range tests {
		fail = tt.err
		_, err := GetID.Call(t.Context(), c, None{})
		got, ok := errors.AsType[*Error](err)
		if !ok || *got != tt.want {
			t.Errorf("%v arrived as %v", tt.err, err)
		}
	}
}

func TestPanicIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, func(s *Server) {
		Handle(s, GetID, func(context.Context, None) (Identity, error) { panic("oh") })
	})
	_, err := GetID.Call(t.Context(), dial(t, path), None{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != Other || !strings.Contains(e.Message, "oh") {
		t.Errorf("error is %v", err)
	}
}

func TestRequestEndsWhenItsClientHangsUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	entered, left := make(chan struct{}), make(chan struct{})
	serve(t, path, func(s *Server) {
		Handle(s, Wait, func(ctx context.Context, _ WaitRequest) (None, error) {
			close(entered)
			<-ctx.Done()
			close(left)
			return None{}, ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Wait.Call(ctx, dial(t, path), WaitRequest{})
		done <- err
	}()
	<-entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the operation goes on without its client")
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "none"), stale, filepath.Join(dir, "none", "none")} {
		_, err := Dial(t.Context(), []string{path})
		want := Error{NoDaemon, "no daemon is running (start it with: clachan up DIR, or systemctl --user start clachan)"}
		if e, ok := errors.AsType[*Error](err); !ok || *e != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Run("a stale socket is replaced", func(t *testing.T) {
		serve(t, stale, func(*Server) {})
		dial(t, stale)
	})
	if _, err := os.Lstat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket outlives its server: %v", err)
	}
}

func TestDialTakesTheFirstThatAnswers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "api.sock")
	serve(t, path, func(*Server) {})
	c, err := Dial(t.Context(), []string{filepath.Join(dir, "none"), path})
	if err != nil || c.Socket() != path {
		t.Errorf("client %v, error %v", c, err)
	}
}

func TestSocketInUseIsNotTaken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "api.sock")
	serve(t, path, func(*Server) {})
	if _, err := Listen(path); err == nil || err.(*Error).Code != State {
		t.Errorf("second server: %v", err)
	}
	dial(t, path)

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	serve(t, path, func(s *Server) {
		Handle(s, GetStatus, func(context.Context, StatusRequest) (Status, error) { return Status{}, nil })
	})
	tests := []struct{ name, method, path, body string }{
		{"unknown field", "POST", "/v1/status", `{"folders":"x"}`},
		{"not JSON", "POST", "/v1/status", `folder`},
		{"empty", "POST", "/v1/status", ``},
		{"too large", "POST", "/v1/status", `{"folder":"` + strings.Repeat("x", maxRequest) + `"}`},
		{"unknown operation", "POST", "/v1/format", `{}`},
		{"wrong method", "GET", "/v1/status", ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, "http://clachan"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := newClient(path, true).http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var e Error
			if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != 400 || e.Code != Usage {
				t.Errorf("status %d, %+v, %v", resp.StatusCode, e, err)
			}
		})
	}
}

func TestOnlyOwnUserAndRootAreAdmitted(t *testing.T) {
	for _, tt := range []struct {
		own, uid int
		want     bool
	}{{1000, 1000, true}, {1000, 0, true}, {1000, 1001, false}, {0, 1000, false}, {0, 0, true}, {1000, -1, false}} {
		if admits(tt.own, tt.uid) != tt.want {
			t.Errorf("daemon of %d, client %d: want %v", tt.own, tt.uid, tt.want)
		}
	}
}

// TestStrangerIsRefused lets another user at a socket that, unlike ours, is
// open to all.
func TestStrangerIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "api.sock")
	serve(t, path, func(s *Server) {
		Handle(s, GetID, func(context.Context, None) (Identity, error) { return Identity{}, nil })
	})
	for p, mode := range map[string]fs.FileMode{dir: 0o755, path: 0o666} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	fd := connectAs(t, 65534, path)
	c, err := net.FileConn(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/id HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "403") {
		t.Errorf("a stranger got %q, %v", answer[:n], err)
	}
}

// connectAs connects to a socket as uid. The thread that was changed is not
// given back to the runtime.
func connectAs(t *testing.T, uid int, path string) *os.File {
	t.Helper()
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		fd, err := connectOnThread(uid, path)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	f := os.NewFile(uintptr(r.fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}
