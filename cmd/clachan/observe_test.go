package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
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
