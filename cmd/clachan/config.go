package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func newConfig(a *app) *cobra.Command {
	var origin bool
	get := &cobra.Command{
		Use:   "get [KEY]",
		Short: "Print the settings, or one",
		Long: `Print the settings of the daemon as they are: flags of the daemon aside, a
variable of the environment beats the file, which beats the default.`,
		Example: `  clachan config get
  clachan config get log.level --origin`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: settingKeys,
		RunE: func(c *cobra.Command, args []string) error { return a.getSettings(c.Context(), arg(args, 0), origin) },
	}
	get.Flags().BoolVar(&origin, "origin", false, "say where each comes from")
	set := &cobra.Command{
		Use:   "set KEY VALUE",
		Short: "Change a setting in the configuration file",
		Long: `Change a setting in the configuration file, which is made if need be; all else
in it stays as it is. A daemon that runs takes it over, or is said to do so when
it starts again.

` + settingsHelp(),
		Example: `  clachan config set log.level debug
  clachan config set listen 0.0.0.0:22170,[::]:22170`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: settingKeys,
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeConfig(c.Context(), func(_, text string) (string, error) {
				text, err := config.Set(text, args[0], args[1])
				if err != nil {
					return "", control.Errorf(control.Usage, "%v", err)
				}
				return text, nil
			})
		},
	}
	edit := &cobra.Command{
		Use:   "edit",
		Short: "Change the configuration file in an editor",
		Long: `Open a copy of the configuration file in $VISUAL, $EDITOR or vi, and put it in
place when it is right. What is wrong is said, with the line, and nothing
changes.`,
		Example: "  EDITOR=nano clachan config edit",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.changeConfig(c.Context(), func(path, text string) (string, error) { return a.editText(c.Context(), path, text) })
		},
	}
	path := &cobra.Command{
		Use: "path", Short: "Print where the configuration file is", Example: "  clachan config path", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			places, _, err := a.places(c.Context())
			if err != nil && !noDaemon(err) {
				return err
			}
			return a.print(control.ConfigPath{Schema: control.Schema, Path: places.Config}, func(w io.Writer) { fmt.Fprintln(w, places.Config) })
		},
	}
	return group("config", "Look at the settings and change them", get, set, edit, path)
}

// settingsHelp lists all settings.
func settingsHelp() string {
	var b strings.Builder
	for _, s := range config.Settings {
		fmt.Fprintf(&b, "  %-11s %s\n", s.Key, strings.ReplaceAll(s.Doc, "; ", ";\n              "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// settingKeys completes the keys of settings.
func settingKeys(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var keys []string
	for _, s := range config.Settings {
		keys = append(keys, s.Key+"\t"+s.Doc)
	}
	return keys, cobra.ShellCompDirectiveNoFileComp
}

// places are those of the daemon that answers, or of one that would be started here.
func (a *app) places(ctx context.Context) (config.Places, control.Version, error) {
	p, err := config.Find(a.flags, a.env)
	if err != nil {
		return p, control.Version{}, control.Errorf(control.State, "%v", err)
	}
	v, err := soon(ctx, a, control.GetVersion, control.None{})
	if err == nil && a.flags.Config == "" {
		p.Config, p.Data = v.Config, v.Data
	}
	return p, v, err
}

func (a *app) getSettings(ctx context.Context, key string, origin bool) error {
	places, _, err := a.places(ctx)
	if err != nil && !noDaemon(err) {
		return err
	}
	conf, origins, err := config.Explain(places, a.env)
	if err != nil {
		return err
	}
	shown := config.Settings
	if key != "" {
		s, ok := config.FindSetting(key)
		if !ok {
			return control.Errorf(control.Usage, "there is no setting %q; see: clachan config get", key)
		}
		shown = []config.Setting{s}
	}
	list := control.SettingList{Schema: control.Schema, Settings: []control.Setting{}}
	for _, s := range shown {
		list.Settings = append(list.Settings, control.Setting{Key: s.Key, Value: s.Value(conf), Origin: origins[s.Key]})
	}
	return a.print(list, func(w io.Writer) {
		for _, s := range shown {
			line := s.Key + " = " + s.Literal(conf)
			if key != "" {
				line = s.Text(conf)
			}
			if origin {
				line += "\t" + origins[s.Key]
			}
			fmt.Fprintln(w, line)
		}
	})
}

// changeConfig replaces the configuration file by what change makes of it, and tells a daemon that runs.
func (a *app) changeConfig(ctx context.Context, change func(path, text string) (string, error)) error {
	places, _, err := a.places(ctx)
	if err != nil && !noDaemon(err) {
		return err
	}
	path := places.Config
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link to it stays one
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("config: %w", err)
	}
	out, err := change(path, string(text))
	if err != nil || out == string(text) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(out), 0o600, renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	done, err := soon(ctx, a, control.Reload, control.None{})
	switch {
	case noDaemon(err):
		return nil
	case err != nil:
		return fmt.Errorf("the file is changed, and the daemon does not take it: %w", err)
	case len(done.Waiting) > 0:
		a.say("%s: when the daemon starts again", strings.Join(done.Waiting, ", "))
	}
	return nil
}

// editText has the user change a text until it is a right configuration file.
func (a *app) editText(ctx context.Context, path, text string) (string, error) {
	f, err := os.CreateTemp("", "clachan-*.toml")
	if err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if e := a.env(name); e != "" {
			editor = e
		}
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", f.Name()) // it may have arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("config: editor %s: %w (what you wrote is in %s)", editor, err, f.Name())
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		return "", fmt.Errorf("config: %w", err)
	}
	if err := config.Check(path, string(out)); err != nil {
		return "", fmt.Errorf("%w (what you wrote is in %s)", err, f.Name())
	}
	return string(out), os.Remove(f.Name())
}
