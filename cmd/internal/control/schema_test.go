package control

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/schema.golden anew")

// Who reads JSON relies on the fields that were there once. To add one, run the test with
// -update; to remove or change one, raise Schema.
func TestNoFieldOfAnAnswerGoesOrChanges(t *testing.T) {
	const golden = "testdata/schema.golden"
	var b strings.Builder
	fmt.Fprintf(&b, "schema %d\n", Schema)
	for _, a := range Answers {
		for _, f := range a.Fields() {
			fmt.Fprintf(&b, "%s %s %s\n", a.Name, f.Path, f.Type)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	is := "\n" + b.String()
	for l := range strings.Lines(string(was)) {
		if !strings.Contains(is, "\n"+l) {
			t.Errorf("is not as it was: %s", l)
		}
	}
	if !t.Failed() && string(was) != b.String() {
		t.Errorf("there is more than in %s: run the test with -update", golden)
	}
}

func TestEveryOperationIsInTheSchema(t *testing.T) {
	listed := map[string]bool{}
	for _, a := range Answers {
		if listed[a.Name] {
			t.Errorf("%s is listed twice", a.Name)
		}
		listed[a.Name] = true
		fields := a.Fields()
		if len(fields) > 0 && a.Name != "error" && fields[0].Path != "schema" {
			t.Errorf("%s does not begin with its schema", a.Name)
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "ops.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ops := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if c, ok := n.(*ast.CompositeLit); ok && len(c.Elts) == 1 {
			if lit, ok := c.Elts[0].(*ast.BasicLit); ok {
				ops++
				if name := strings.Trim(lit.Value, `"`); !listed[name] {
					t.Errorf("the operation %s is not among the Answers", name)
				}
			}
		}
		return true
	})
	if ops < 15 {
		t.Errorf("%d operations were looked at", ops)
	}
}

func TestTheSchemaSaysWhatFieldsMean(t *testing.T) {
	var b strings.Builder
	if err := WriteSchema(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"status\n  schema ", "folders[].only_here ", ": files\n", "  synced\n", "peers[].rtt_ms", "number or null", "\nevents\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

// What is said of a field is read from the file that declares it, so that file must be embedded.
func TestTheFieldsOfEveryAnswerAreLookedUp(t *testing.T) {
	docs, looked := comments(), map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(in reflect.Type) {
		for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			in = in.Elem()
		}
		if in.Kind() != reflect.Struct || in == reflect.TypeFor[time.Time]() || looked[in] {
			return
		}
		looked[in] = true
		for f := range in.Fields() {
			if _, ok := docs[in.Name()+"."+f.Name]; !ok && !f.Anonymous {
				t.Errorf("%s.%s: its file is not embedded", in.Name(), f.Name)
			}
			look(f.Type)
		}
	}
	for _, a := range Answers {
		look(a.Type)
	}
	if len(looked) < 20 {
		t.Errorf("%d types were looked at", len(looked))
	}
}
