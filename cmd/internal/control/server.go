package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxBody bounds a request and an answer.
const maxBody = 64 << 20

// Server answers the operations that were registered with [Handle].
type Server struct {
	mux  *http.ServeMux
	code func(error) Code
	log  *slog.Logger
}

// NewServer makes a server of no operations. code tells the kind of an error
// that is no [Error].
func NewServer(code func(error) Code, log *slog.Logger) *Server {
	s := &Server{mux: http.NewServeMux(), code: code, log: log}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, Errorf(Usage, "the daemon knows no operation %s %s; is it of another version?", r.Method, r.URL.Path))
	})
	s.showProfiles()
	return s
}

// Handle lets fn answer op.
func Handle[In, Out any](s *Server, op Op[In, Out], fn func(context.Context, In) (Out, error)) {
	s.mux.HandleFunc("POST "+op.path(), func(w http.ResponseWriter, r *http.Request) {
		var in In
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			s.fail(w, Errorf(Usage, "%s: %v", op.name, err))
			return
		}
		// The server watches for the client's hanging up only once the
		// request was read to its end.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			s.fail(w, Errorf(Usage, "%s: %v", op.name, err))
			return
		}
		out, err := fn(r.Context(), in)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.reply(w, http.StatusOK, out)
	})
}

// maxRequest bounds a request; the largest holds a ticket and a few options.
const maxRequest = 1 << 20

func (s *Server) fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	if ok { // keep what was wrapped around it
		e = &Error{Code: e.Code, Message: err.Error()}
	} else {
		e = &Error{Code: s.code(err), Message: err.Error()}
	}
	s.reply(w, httpStatus(e.Code), e)
}

func (s *Server) reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer not delivered", "err", err)
	}
}

// httpStatus is for those who ask with curl; clients go by the code.
func httpStatus(c Code) int {
	switch c {
	case Usage:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Denied:
		return http.StatusForbidden
	case State:
		return http.StatusConflict
	case Offline:
		return http.StatusServiceUnavailable
	case Timeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

type uidKey struct{}

// Serve answers at l until ctx ends; then requests are cancelled, and Serve
// returns when the last of them has been answered. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.guard),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid, err := peerUID(c)
			if err != nil {
				uid = -1
			}
			return context.WithValue(ctx, uidKey{}, uid)
		},
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("api: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(last); err != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Wait()
}

// guard lets only the daemon's own user and root in, and turns a panic of an
// operation into its failure: the mounts must outlive it.
func (s *Server) guard(w http.ResponseWriter, r *http.Request) {
	if uid, _ := r.Context().Value(uidKey{}).(int); !admits(os.Geteuid(), uid) {
		s.fail(w, Errorf(Denied, "this daemon belongs to another user"))
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("operation failed badly", "op", r.URL.Path, "err", p, "stack", string(debug.Stack()))
			s.fail(w, Errorf(Other, "%s: internal error: %v", r.URL.Path, p))
		}
	}()
	s.mux.ServeHTTP(w, r)
}

func admits(own, uid int) bool { return uid == 0 || uid == own }
