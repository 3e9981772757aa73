package main

import (
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/clachanfs/clachan/cmd/internal/config"
	"github.com/clachanfs/clachan/cmd/internal/control"
	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// A paint is a colour of a terminal.
type paint string

const (
	unpainted paint = ""
	strong    paint = "1"
	dim       paint = "2"
	red       paint = "31"
	green     paint = "32"
	yellow    paint = "33"
)

// A painter paints, or leaves text as it is.
type painter bool

func (p painter) paint(c paint, s string) string {
	if !p || c == unpainted || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// The values of --color.
const (
	colourAuto   = "auto"
	colourAlways = "always"
	colourNever  = "never"
)

// colours decides whether to paint what goes to f.
func (a *app) colours(f *os.File) painter {
	return painter(wantsColour(a.colour, a.env, isTerminal(f)))
}

func wantsColour(how string, env config.Env, terminal bool) bool {
	force := env("CLICOLOR_FORCE")
	switch {
	case how == colourAlways || how == colourNever:
		return how == colourAlways
	case env("NO_COLOR") != "":
		return false
	case force != "" && force != "0":
		return true
	}
	return terminal && env("TERM") != "dumb"
}

// colourFlag is the value of --color.
type colourFlag struct{ how *string }

func (f colourFlag) String() string {
	if f.how == nil {
		return ""
	}
	return *f.how
}
func (f colourFlag) Type() string { return "WHEN" }
func (f colourFlag) Set(s string) error {
	switch s {
	case colourAuto, colourAlways, colourNever:
		*f.how = s
		return nil
	}
	return control.Errorf(control.Usage, "it is %s, %s or %s", colourAuto, colourAlways, colourNever)
}

// statePaint is the colour of a state.
func statePaint(state string) paint {
	switch state {
	case control.StateSynced:
		return green
	case control.StateError, control.StateConflict:
		return red
	}
	return yellow
}

// A cell is a piece of a line in one colour.
type cell struct {
	text string
	paint
}

// A line is what is shown side by side.
type line []cell

// text writes a line, cut to width if that is not 0.
func (l line) text(p painter, width int) string {
	var b strings.Builder
	used := 0
	for _, c := range l {
		s := c.text
		if w := runewidth.StringWidth(s); width > 0 && used+w > width {
			s = runewidth.Truncate(s, width-used, "…")
		}
		used += runewidth.StringWidth(s)
		b.WriteString(p.paint(c.paint, s))
		if width > 0 && used >= width {
			break
		}
	}
	if p {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// columns pads the cells of lines so that they stand below each other.
func columns(lines []line) {
	var widths []int
	for _, l := range lines {
		for i, c := range l {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(c.text))
		}
	}
	for _, l := range lines {
		for i := range l[:max(0, len(l)-1)] {
			l[i].text = runewidth.FillRight(l[i].text, widths[i]) + "  "
		}
	}
}

// wrap breaks text into lines of at most width columns, at its spaces.
func wrap(text string, width int) (lines []string) {
	now := ""
	for _, word := range strings.Fields(text) {
		switch {
		case now == "":
			now = word
		case runewidth.StringWidth(now)+1+runewidth.StringWidth(word) <= width:
			now += " " + word
		default:
			lines, now = append(lines, now), word
		}
	}
	return append(lines, now)
}

// legible is a name of somebody's making as it may be shown: no control characters.
func legible(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// screen is the size of the terminal that f is; 80 columns of lines without end if it is none.
func screen(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 80, 0
	}
	return known(width, height)
}

// known is a size of a screen, the usual one where a terminal does not tell its own.
func known(width, height int) (int, int) {
	if width <= 0 {
		width = 80
	}
	if height <= 0 {
		height = 24
	}
	return width, height
}
