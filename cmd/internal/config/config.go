package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds the configuration file: it is written by hand.
const maxFile = 1 << 20

// Config holds the settings of a daemon.
type Config struct {
	Listen    []string `toml:"listen"`     // HOST:PORT, TCP and QUIC; empty: port 22170 on all addresses, or a free one
	Discovery bool     `toml:"discovery"`  // find members on the local network
	Device    string   `toml:"device"`     // the name others see; the host name unless set
	Mounts    string   `toml:"mounts"`     // where folders are mounted that name no directory
	Metrics   string   `toml:"metrics"`    // HOST:PORT where Prometheus may ask; empty: nowhere
	MetricsTo string   `toml:"metrics_to"` // who may be able to: this-machine or anybody
	Log       Log      `toml:"log"`
}

// Log holds the settings of the daemon's log.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn or error
	Format string `toml:"format"` // auto, text or json
	Names  bool   `toml:"names"`  // let file names appear above debug
}

// Error is a mistake in the settings. Line is 0 when it is not in the file.
type Error struct {
	Source string // the file, or the environment variable
	Line   int
	Text   string
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.Source, e.Line, e.Text)
	}
	return fmt.Sprintf("%s: %s", e.Source, e.Text)
}

// Load reads the settings of the instance at p: defaults, file, environment.
// Flags are applied by the caller, who then calls [Config.Validate] again.
func Load(p Places, env Env) (Config, error) {
	c, _, err := Explain(p, env)
	return c, err
}

// Explain is Load that says of each setting where it comes from: "default", the file with the line, or the variable.
func Explain(p Places, env Env) (Config, map[string]string, error) {
	c := defaults(p.Mounts)
	origins := map[string]string{}
	for _, s := range Settings {
		origins[s.Key] = "default"
	}
	if err := c.readFile(p.Config, origins); err != nil {
		return Config{}, nil, err
	}
	if err := c.readEnv(env, origins); err != nil {
		return Config{}, nil, err
	}
	if c.Device == "" {
		c.Device = hostname()
	}
	return c, origins, nil
}

// defaults is what an empty file sets.
func defaults(mounts string) Config {
	return Config{Discovery: true, Mounts: mounts, MetricsTo: thisMachine, Log: Log{Level: "info", Format: "auto"}}
}

// Check says what is wrong in the text of a configuration file.
func Check(path, text string) error {
	c := defaults("/")
	_, err := c.parse(path, text)
	return err
}

func (c *Config) readFile(path string, origins map[string]string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && st.Size() > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return &Error{Source: path, Text: err.Error()}
	}
	meta, err := c.parse(path, string(text))
	if err != nil {
		return err
	}
	for _, s := range Settings {
		if meta.IsDefined(s.path()...) {
			origins[s.Key] = path
			if n := lineOf(string(text), s.path()); n > 0 {
				origins[s.Key] = fmt.Sprintf("%s:%d", path, n)
			}
		}
	}
	return nil
}

// typeMistake takes apart what the parser says of a value of a wrong type.
var typeMistake = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*)"\): (.*)$`)

// parse reads the text of a configuration file into c, and tells what is in it.
func (c *Config) parse(path, text string) (toml.MetaData, error) {
	meta, err := toml.Decode(text, c)
	if perr, ok := errors.AsType[toml.ParseError](err); ok {
		return meta, &Error{Source: path, Line: perr.Position.Line, Text: perr.Message}
	}
	if err != nil { // a wrong type, whose line is only in the text of the error
		bad := &Error{Source: path, Text: strings.TrimPrefix(err.Error(), "toml: ")}
		if m := typeMistake.FindStringSubmatch(err.Error()); m != nil {
			bad.Line, _ = strconv.Atoi(m[1])
			bad.Text = m[2] + ": " + m[3]
		}
		return meta, bad
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return meta, &Error{Source: path, Line: lineOf(text, key), Text: fmt.Sprintf("unknown key %q", key)}
	}
	if bad := c.check(); bad != nil {
		return meta, &Error{Source: path, Line: lineOf(text, bad.key), Text: bad.text}
	}
	return meta, nil
}

// logEnv is a shorter word for CLACHAN_LOG_LEVEL.
const logEnv = "CLACHAN_LOG"

// readEnv applies the variables CLACHAN_SECTION_KEY to c.
func (c *Config) readEnv(env Env, origins map[string]string) error {
	for _, s := range Settings {
		names := []string{s.Env()}
		if s.Key == "log.level" {
			names = []string{logEnv, s.Env()}
		}
		for _, name := range names {
			value := env(name)
			if value == "" {
				continue
			}
			err := s.set(c, value)
			if err == nil {
				if bad := c.check(); bad != nil { // the rest is known to be right: it is this one
					err = errors.New(bad.text)
				}
			}
			if err != nil {
				return &Error{Source: name, Text: err.Error()}
			}
			origins[s.Key] = name
		}
	}
	return nil
}

// mistake is a value that has the right type and is wrong all the same.
type mistake struct {
	key  toml.Key
	text string
}

func (c *Config) check() *mistake {
	for _, l := range c.Listen {
		if err := CheckListen(l); err != nil {
			return &mistake{toml.Key{"listen"}, err.Error()}
		}
	}
	if c.Device != "" {
		if err := checkDevice(c.Device); err != nil {
			return &mistake{toml.Key{"device"}, err.Error()}
		}
	}
	if !filepath.IsAbs(c.Mounts) {
		return &mistake{toml.Key{"mounts"}, fmt.Sprintf("mounts must be an absolute path, not %q", c.Mounts)}
	}
	if key, err := c.checkMetrics(); err != nil {
		return &mistake{toml.Key{key}, err.Error()}
	}
	if _, err := c.Log.Threshold(); err != nil {
		return &mistake{toml.Key{"log", "level"}, err.Error()}
	}
	if formats := []string{"auto", "text", "json"}; !slices.Contains(formats, c.Log.Format) {
		return &mistake{toml.Key{"log", "format"}, fmt.Sprintf("log format must be one of %s, not %q", strings.Join(formats, ", "), c.Log.Format)}
	}
	return nil
}

// Validate reports the first wrong value, wherever it came from.
func (c *Config) Validate() error {
	if bad := c.check(); bad != nil {
		return errors.New(bad.text)
	}
	return nil
}

// Threshold is the level from which on lines are logged.
func (l Log) Threshold() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return 0, fmt.Errorf("log level must be debug, info, warn or error, not %q", l.Level)
	}
	return level, nil
}

// CheckListen reports whether s is an address to listen on: a literal address,
// or none for all of them, and a port, 0 for a free one.
func CheckListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("want HOST:PORT, not %q", s)
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("the host of %q is not an IP address", s)
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("the port of %q is not a number from 0 to 65535", s)
	}
	return nil
}

// Who may ask for metrics.
const (
	thisMachine = "this-machine"
	anybody     = "anybody"
)

// checkMetrics reports whether metrics, which name folders and members, go where they may, or which key is wrong.
func (c *Config) checkMetrics() (key string, err error) {
	if c.MetricsTo != thisMachine && c.MetricsTo != anybody {
		return "metrics_to", fmt.Errorf("metrics_to must be %s or %s, not %q", thisMachine, anybody, c.MetricsTo)
	}
	if c.Metrics == "" {
		return "", nil
	}
	if err := CheckListen(c.Metrics); err != nil {
		return "metrics", fmt.Errorf("metrics: %w", err)
	}
	host, _, _ := net.SplitHostPort(c.Metrics)
	if ip, err := netip.ParseAddr(host); c.MetricsTo == thisMachine && (err != nil || !ip.IsLoopback()) {
		return "metrics", fmt.Errorf("metrics at %s would tell other machines the names of folders and members: use 127.0.0.1, or say metrics_to = %q", c.Metrics, anybody)
	}
	return "", nil
}

// checkDevice holds the rules for a name that is shown to others.
func checkDevice(s string) error {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == ':' }) {
		return fmt.Errorf("the device name %q must have at most 64 bytes and no '/', ':' or control characters", s)
	}
	return nil
}

func hostname() string {
	name, err := os.Hostname()
	if name, _, _ = strings.Cut(name, "."); err != nil || name == "" || checkDevice(name) != nil {
		return "device"
	}
	return name
}

// lineOf finds the line of the text that sets key. TOML allows spellings that
// this does not see; the result is then 0 and the message names only the key.
func lineOf(text string, key toml.Key) int {
	var table string
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(line, "[] \t")
			if table == key.String() {
				return i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if name = strings.TrimSpace(name); table != "" {
			name = table + "." + name
		}
		if name == key.String() {
			return i + 1
		}
	}
	return 0
}
