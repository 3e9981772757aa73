package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Setting is one key of the file.
type Setting struct {
	Key     string // log.level is level of the table log
	Doc     string
	Example string            // in TOML
	Live    bool              // a daemon that runs can take it over
	field   func(*Config) any // *string, *bool or *[]string
}

// Settings are all there are.
var Settings = []Setting{
	{"listen", "addresses to listen on for peers, TCP and QUIC: HOST:PORT each, port 0 for a free one; without it port 22170 on all, or a free one", `["0.0.0.0:22170"]`, false,
		func(c *Config) any { return &c.Listen }},
	{"discovery", "find members on the local network", `true`, false, func(c *Config) any { return &c.Discovery }},
	{"device", "the name others see; without it that of the machine", `"desk"`, false, func(c *Config) any { return &c.Device }},
	{"mounts", "where folders are mounted that name no directory", `"/home/ana/Clachan"`, true, func(c *Config) any { return &c.Mounts }},
	{"metrics_to", "who may be able to ask for metrics: this-machine, so that metrics must be at a loopback address, or anybody", `"this-machine"`, false,
		func(c *Config) any { return &c.MetricsTo }},
	{"metrics", "where Prometheus may ask for metrics, which name folders and members but no files: HOST:PORT, such as 127.0.0.1:22171, path /metrics; without it nowhere", `"127.0.0.1:22171"`, false,
		func(c *Config) any { return &c.Metrics }},
	{"log.level", "log from this level on: debug, info, warn, error", `"info"`, true, func(c *Config) any { return &c.Log.Level }},
	{"log.format", "auto (for the journal where there is one), text or json", `"auto"`, false, func(c *Config) any { return &c.Log.Format }},
	{"log.names", "let the log name files above level debug too", `false`, true, func(c *Config) any { return &c.Log.Names }},
}

// FindSetting gets a setting by its key.
func FindSetting(key string) (Setting, bool) {
	i := slices.IndexFunc(Settings, func(s Setting) bool { return s.Key == key })
	if i < 0 {
		return Setting{}, false
	}
	return Settings[i], true
}

// Env is the variable that sets it.
func (s Setting) Env() string {
	return "CLACHAN_" + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Value is its value in c: a string, a bool or a []string.
func (s Setting) Value(c Config) any { return reflect.ValueOf(s.field(&c)).Elem().Interface() }

// Same tells whether it is the same in both.
func (s Setting) Same(a, b Config) bool { return reflect.DeepEqual(s.Value(a), s.Value(b)) }

// path is its key as the parser has it.
func (s Setting) path() toml.Key { return strings.Split(s.Key, ".") }

// set gives it a value, which is written as in the environment: a list with commas.
func (s Setting) set(c *Config, value string) error {
	switch p := s.field(c).(type) {
	case *string:
		*p = value
	case *[]string:
		*p = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	case *bool:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("want true or false, not %q", value)
		}
		*p = on
	}
	return nil
}

// Literal is its value in c as TOML has it.
func (s Setting) Literal(c Config) string {
	b, err := toml.Marshal(map[string]any{"x": s.Value(c)})
	if err != nil {
		return "" // of none of the three types
	}
	_, value, _ := strings.Cut(strings.TrimSpace(string(b)), " = ")
	return value
}

// Text is its value in c as the environment has it, and Set takes it.
func (s Setting) Text(c Config) string {
	if list, ok := s.Value(c).([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(s.Value(c))
}

// errByHand says that a file is written in a way that Set does not see through.
var errByHand = errors.New("is written in a way that only you can change: clachan config edit")

// Set is the text of a configuration file with another value of a setting; all else stays as it is.
func Set(text, key, value string) (string, error) {
	s, ok := FindSetting(key)
	if !ok {
		return "", fmt.Errorf("there is no setting %q", key)
	}
	c := defaults("/")
	if _, err := c.parse("", text); err != nil {
		return "", err
	}
	if err := s.set(&c, value); err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	if bad := c.check(); bad != nil {
		return "", errors.New(bad.text)
	}
	out, err := s.replace(text, s.Literal(c))
	if err != nil {
		return "", fmt.Errorf("%s %w", key, err)
	}
	got := defaults("/")
	if _, err := got.parse("", out); err != nil || !reflect.DeepEqual(got, c) {
		return "", fmt.Errorf("%s %w", key, errByHand)
	}
	return out, nil
}

// replace puts a value where the setting is, or where it belongs.
func (s Setting) replace(text, literal string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	if n := lineOf(text, s.path()); n > 0 {
		line := strings.TrimRight(lines[n-1], "\r\n")
		name, _, _ := strings.Cut(line, "=")
		comment, whole := tail(line)
		if !whole {
			return "", errByHand
		}
		lines[n-1] = strings.TrimRight(name, " \t") + " = " + literal + comment + "\n"
		return strings.Join(lines, ""), nil
	}
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	} else {
		lines[n-1] += "\n"
	}
	table, name := "", s.Key
	if path := s.path(); len(path) > 1 {
		table, name = path[0], path[1]
	}
	at := place(lines, table)
	if at < 0 {
		return strings.Join(append(lines, "\n["+table+"]\n", name+" = "+literal+"\n"), ""), nil
	}
	return strings.Join(slices.Insert(lines, at, name+" = "+literal+"\n"), ""), nil
}

// tail is the comment after the value of a line, with the space before it; whole: the value ends in that line.
func tail(line string) (comment string, whole bool) {
	parses := func(s string) bool {
		var v map[string]any
		_, err := toml.Decode(s, &v)
		return err == nil
	}
	for i, r := range line {
		if r == '#' && parses(line[:i]) {
			return line[len(strings.TrimRight(line[:i], " \t")):], true
		}
	}
	return "", parses(line)
}

// place is the line before which a key of a table goes: after the last of that table. Negative: there is no such table.
func place(lines []string, table string) int {
	at, here := -1, table == ""
	if here {
		at = 0
	}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			here = strings.Trim(line, "[] \t") == table
		}
		if here && line != "" && line[0] != '#' { // a comment may be of what comes next
			at = i + 1
		}
	}
	return at
}
