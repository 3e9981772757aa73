package control

import (
	"embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"strings"
	"time"
)

// An Answer is what a verb prints with --json, or an operation of the API answers.
type Answer struct {
	Name string
	Type reflect.Type
}

func answer[In, Out any](o Op[In, Out]) Answer { return Answer{o.name, reflect.TypeFor[Out]()} }

// Answers lists them all. Of each the fields and their types are a promise for as long as
// Schema stays the same: there may be more of them, never fewer.
var Answers = []Answer{
	answer(GetStatus), {"events", reflect.TypeFor[Event]()},
	answer(ListFolders), answer(InitFolder), answer(JoinFolder), answer(UpFolder), answer(MountFolder), answer(UmountFolder),
	answer(LeaveFolder), answer(GoneFiles), answer(Wait), answer(Invite), answer(ListPeers), answer(GetID), answer(CheckStore),
	answer(GetVersion), answer(Checkpoint), answer(Reload), answer(Scrub), answer(GetLacking),
	{"scrubs", reflect.TypeFor[Scrubs]()}, {"support", reflect.TypeFor[Supported]()}, {"doctor", reflect.TypeFor[Findings]()}, {"config", reflect.TypeFor[SettingList]()},
	{"config path", reflect.TypeFor[ConfigPath]()},
	{"error", reflect.TypeFor[Error]()},
}

// A Field is one field of an answer.
type Field struct {
	Path string // folders[].name
	Type string // string, number, bool, time, object, list of …, any; and "or null"
	Doc  string
}

// Fields lists the fields of an answer in order.
func (a Answer) Fields() []Field { return fields("", a.Type, comments()) }

func fields(prefix string, t reflect.Type, docs map[string]string) (out []Field) {
	for f := range t.Fields() {
		if in := f.Type; f.Anonymous {
			if in.Kind() == reflect.Pointer {
				in = in.Elem()
			}
			for _, x := range fields(prefix, in, docs) {
				if x.Path != prefix+"schema" { // of the whole
					out = append(out, x)
				}
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || name == "" {
			continue
		}
		kind, below := jsonType(f.Type)
		if options == "omitempty" {
			kind += ", or left out"
		}
		path := prefix + name
		out = append(out, Field{path, kind, docs[t.Name()+"."+f.Name]})
		if below != nil {
			if f.Type.Kind() == reflect.Slice {
				path += "[]"
			}
			out = append(out, fields(path+".", below, docs)...)
		}
	}
	return out
}

// jsonType names what a Go type is in JSON; below is the type of an object, or of those in
// a list.
func jsonType(t reflect.Type) (name string, below reflect.Type) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time", nil
	case t.Kind() == reflect.Pointer:
		name, below = jsonType(t.Elem())
		return name + " or null", below
	case t.Kind() == reflect.Slice:
		name, below = jsonType(t.Elem())
		return "list of " + name, below
	case t.Kind() == reflect.Struct:
		return "object", t
	case t.Kind() == reflect.String:
		return "string", nil
	case t.Kind() == reflect.Bool:
		return "bool", nil
	case t.Kind() == reflect.Interface:
		return "any", nil
	}
	return "number", nil
}

//go:embed types.go events.go code.go scrub.go
var sources embed.FS

// inspect shows fn what the types and constants of the API are declared as.
func inspect(fn func(ast.Node)) {
	files, err := sources.ReadDir(".")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range files {
		text, err := sources.ReadFile(f.Name())
		if err != nil {
			panic(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ParseComments)
		if err != nil {
			panic(err) // it was compiled
		}
		ast.Inspect(file, func(n ast.Node) bool {
			fn(n)
			return true
		})
	}
}

// comments are what the types say of their fields, by "Type.Field".
func comments() map[string]string {
	docs := map[string]string{}
	inspect(func(n ast.Node) {
		t, ok := n.(*ast.TypeSpec)
		if !ok {
			return
		}
		if s, ok := t.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, id := range f.Names {
					docs[t.Name.Name+"."+id.Name] = oneLine(f.Doc.Text() + " " + f.Comment.Text())
				}
			}
		}
	})
	return docs
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// A Word is one of the values that a field can have, and what it means.
type Word struct{ Value, Doc string }

// Words lists the constants whose names begin with prefix (State, Event, Task, Level), or
// those of the type of that name (Code).
func Words(prefix string) (out []Word) {
	inspect(func(n ast.Node) {
		g, ok := n.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			return
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			of, typed := v.Type.(*ast.Ident)
			if typed != (prefix == "Code") || typed && of.Name != prefix || !typed && !strings.HasPrefix(v.Names[0].Name, prefix) {
				continue
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				out = append(out, Word{strings.Trim(lit.Value, `"`), oneLine(v.Comment.Text())})
			}
		}
	})
	return out
}

// WriteSchema writes all answers, and the words in them, for people to read.
func WriteSchema(w io.Writer) error {
	var b strings.Builder
	for _, a := range Answers {
		list := a.Fields()
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s\n", a.Name)
		for _, f := range list {
			fmt.Fprintf(&b, "  %-28s %s", f.Path, f.Type)
			if f.Doc != "" {
				fmt.Fprintf(&b, ": %s", f.Doc)
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	for _, x := range []struct{ prefix, title string }{
		{"State", "The states of a folder, the first that holds"}, {"Event", "The kinds of events"}, {"Task", "The kinds of tasks"}, {"Level", "The levels of findings"},
	} {
		fmt.Fprintf(&b, "%s:\n%s\n", x.title, WordList(x.prefix))
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

// WordList is the words with that prefix, a line each.
func WordList(prefix string) string {
	var b strings.Builder
	for _, x := range Words(prefix) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-17s %s", x.Value, x.Doc), " ") + "\n")
	}
	return b.String()
}
