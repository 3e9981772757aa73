package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "man",
		Short: "Print the manual page",
		Long: `Print the manual page of clachan, or with --out write all pages into a directory:
one for each verb, in section 1, and clachan.toml and clachan-json in section 5.`,
		Example: `  clachan man | man -l -
  clachan man --out /usr/local/share/man`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return doc.GenMan(c.Root(), manHeader("1"), a.stdout)
			}
			return writeMan(c.Root(), out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "write all pages below `DIR`, in man1 and man5")
	return c
}

func manHeader(section string) *doc.GenManHeader {
	return &doc.GenManHeader{Section: section, Source: "Clachan " + version, Manual: "Clachan"}
}

// writeMan writes all pages below dir.
func writeMan(root *cobra.Command, dir string) error {
	for _, sub := range []string{"man1", "man5"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return fmt.Errorf("man: %w", err)
		}
	}
	root.InitDefaultCompletionCmd()
	if err := doc.GenManTree(root, manHeader("1"), filepath.Join(dir, "man1")); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	for name, page := range map[string][]byte{"clachan.toml.5": configMan(), "clachan-json.5": jsonMan()} {
		if err := os.WriteFile(filepath.Join(dir, "man5", name), page, 0o644); err != nil {
			return fmt.Errorf("man: %w", err)
		}
	}
	return nil
}

// jsonMan is the page of what verbs print with --json.
func jsonMan() []byte {
	intro, schema, _ := strings.Cut(jsonTopic(), "\n\n")
	var b bytes.Buffer
	fmt.Fprintf(&b, `%% "clachan-json" "5" "" "Clachan %s" "Clachan"

# NAME
clachan-json - what verbs of clachan print with --json

# DESCRIPTION
%s

# ANSWERS
%s

# SEE ALSO
**clachan(1)**, **clachan-events(1)**, **clachan-status(1)**
`, version, intro, "```\n"+schema+"\n```")
	return md2man.Render(b.Bytes())
}

// configMan is the page of the configuration file, of the table of settings.
func configMan() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `%% "clachan.toml" "5" "" "Clachan %s" "Clachan"

# NAME
clachan.toml - settings of the daemon of clachan

# SYNOPSIS
**~/.config/clachan/clachan.toml**, **/etc/clachan/clachan.toml**, or where **clachan config path** says

# DESCRIPTION
A file in TOML that need not exist. A variable of the environment beats it. An unknown key or a wrong value keeps the
daemon from starting, and is named with its line. **clachan config set** and **clachan config edit** change it;
**clachan config get --origin** tells where each value comes from.

# SETTINGS
`, version)
	for _, s := range config.Settings {
		when := "when the daemon starts again"
		if s.Live {
			when = "at once"
		}
		fmt.Fprintf(&b, "**%s** (such as `%s`)\n: %s. Environment: **%s**. Taken over %s.\n\n", s.Key, s.Example, strings.TrimSuffix(s.Doc, "."), s.Env(), when)
	}
	b.WriteString("# SEE ALSO\n**clachan(1)**, **clachan-config(1)**\n")
	return md2man.Render(b.Bytes())
}
