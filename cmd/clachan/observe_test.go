package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/clachanfs/clachan/peers/trust"
	"github.com/rogpeppe/go-internal/testscript"
)

// logged HOME PATTERN waits for a pattern in the log of a daemon, or sees that it is not there.
func cmdLogged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] logged HOME PATTERN")
	}
	log := script(ts).get(ts, args[0]).stderr
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	for end := time.Now().Add(patience); !neg && !re.MatchString(log.String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("not in the log:\n%s", log)
		}
	}
	if neg && re.MatchString(log.String()) {
		ts.Fatalf("in the log:\n%s", log)
	}
}

// scrape HOME FILE gets the metrics of a daemon from where its log says they are.
func cmdScrape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: scrape HOME FILE")
	}
	at := regexp.MustCompile(`metrics url=(\S+)`).FindStringSubmatch(script(ts).get(ts, args[0]).stderr.String())
	if at == nil {
		ts.Fatalf("%s does not say where its metrics are", args[0])
	}
	resp, err := http.Get(at[1])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", resp.Status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o644))
}

// shown HOME PATH FILE gets what the socket of a daemon shows to tools.
func cmdShown(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] shown HOME PATH FILE")
	}
	c, err := control.Dial(context.Background(), []string{filepath.Join(args[0], "api.sock")})
	ts.Check(err)
	body, err := c.Read(context.Background(), args[1])
	if (err != nil) != neg {
		ts.Fatalf("%s: %d bytes, %v", args[1], len(body), err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o644))
}

// discreet BUNDLE HOME WORD... sees that neither the key of a home nor a word is in what a bundle unpacks to.
func cmdDiscreet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: discreet BUNDLE HOME WORD...")
	}
	id, err := trust.LoadIdentity(filepath.Join(args[1], "data", "identity"))
	ts.Check(err)
	var secrets [][]byte
	for _, w := range args[2:] {
		secrets = append(secrets, []byte(w))
	}
	for _, k := range [][]byte{id.Key(), id.Key().Seed()} {
		for _, enc := range []string{string(k), hex.EncodeToString(k), base64.StdEncoding.EncodeToString(k), base64.RawURLEncoding.EncodeToString(k),
			base32.StdEncoding.EncodeToString(k)} {
			secrets = append(secrets, []byte(enc)[:len(enc)-len(enc)%8]) // the end depends on what follows
		}
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	ts.Check(err)
	parts := 0
	for t := tar.NewReader(z); ; parts++ {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		ts.Check(err)
		body, err := io.ReadAll(t)
		ts.Check(err)
		if strings.HasSuffix(h.Name, ".gz") {
			inner, err := gzip.NewReader(bytes.NewReader(body))
			ts.Check(err)
			body, err = io.ReadAll(inner)
			ts.Check(err)
		}
		for _, s := range secrets {
			if at := bytes.Index(bytes.ToLower(body), bytes.ToLower(s)); at >= 0 {
				ts.Fatalf("%s tells %q: %q", h.Name, s, body[max(0, at-80):min(len(body), at+80)])
			}
		}
	}
	if parts < 8 {
		ts.Fatalf("%d parts", parts)
	}
}
