package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/google/pprof/profile"
)

// dir is what the bundle unpacks into.
const dir = "clachan-support/"

// A Bundle gathers parts.
type Bundle struct {
	Veil  Veil
	Parts []control.BundlePart
	files [][]byte // of each part
}

// add takes a part in, as it is.
func (b *Bundle) add(name, what string, body []byte, err error) {
	p := control.BundlePart{Name: name, What: what, Size: len(body)}
	if err != nil {
		p.Lack, body = b.Veil.Text(withoutNewlines(err)), nil
	}
	b.Parts, b.files = append(b.Parts, p), append(b.files, body)
}

func withoutNewlines(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Text takes a text in.
func (b *Bundle) Text(name, what, text string, err error) {
	b.add(name, what, []byte(b.Veil.Text(text)), err)
}

// named are the values of a log that are names, of folders that are no more too.
var named = regexp.MustCompile(`\b(folder|name|dir|to)=("(?:[^"\\]|\\.)*"|\S+)`)

// Log takes lines of the log in.
func (b *Bundle) Log(name, what, lines string, err error) {
	text := b.Veil.Text(lines)
	if !b.Veil.Open {
		text = named.ReplaceAllStringFunc(text, func(s string) string {
			key, value, _ := strings.Cut(s, "=")
			if known := strings.Trim(value, `"`); strings.HasPrefix(known, "folder-") || strings.HasPrefix(known, "device-") || strings.HasPrefix(known, "/DIR-of-") {
				return s
			}
			return key + "=" + hidden
		})
	}
	b.add(name, what, []byte(text), err)
}

// JSON takes a value in.
func (b *Bundle) JSON(name, what string, value any, err error) {
	var text bytes.Buffer
	if err == nil {
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false) // the veil goes by the names as they are
		enc.SetIndent("", "  ")
		err = enc.Encode(value)
	}
	b.Text(name, what, text.String(), err)
}

// Profile takes a profile of pprof in, without the names of directories in it.
func (b *Bundle) Profile(name, what string, raw []byte, err error) {
	var out bytes.Buffer
	if err == nil {
		err = b.veilProfile(raw, &out)
	}
	b.add(name, what, out.Bytes(), err)
}

func (b *Bundle) veilProfile(raw []byte, w io.Writer) error {
	p, err := profile.ParseData(raw)
	if err != nil {
		return fmt.Errorf("read profile: %w", err)
	}
	for _, m := range p.Mapping {
		m.File = filepath.Base(m.File)
	}
	for _, f := range p.Function {
		f.Filename = b.Veil.Text(f.Filename)
	}
	p.Comments = nil
	return p.Write(w)
}

// Write makes the file of all parts, with a page that tells of them.
func (b *Bundle) Write(w io.Writer, now time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	put := func(name string, body []byte) error {
		err := t.WriteHeader(&tar.Header{Name: dir + name, Mode: 0o600, Size: int64(len(body)), ModTime: now, Format: tar.FormatPAX})
		if err == nil {
			_, err = t.Write(body)
		}
		return err
	}
	err := put("README.txt", []byte("Made by clachan support.\n\n"+b.Contents()))
	for i, p := range b.Parts {
		if err == nil && p.Lack == "" {
			err = put(p.Name, b.files[i])
		}
	}
	if err = errors.Join(err, t.Close(), z.Close()); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// Contents tells what is in it and what is not.
func (b *Bundle) Contents() string {
	var in, out strings.Builder
	for _, p := range b.Parts {
		if p.Lack == "" {
			fmt.Fprintf(&in, "%-16s %s\n", p.Name, p.What)
		} else {
			fmt.Fprintf(&out, "%-16s %s: %s\n", p.Name, p.What, p.Lack)
		}
	}
	names := "Names of folders, members and users, directories and addresses are replaced by pseudonyms."
	if b.Veil.Open {
		names = "Names of folders, members and users, directories and addresses are in it, as was asked for."
	}
	text := in.String() + "\nNo keys, no tickets and no names of files are in it. " + names + "\n"
	if out.Len() > 0 {
		text += "\nMissing:\n" + out.String()
	}
	return text
}
