package cli_test

import (
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// TestPluginsNew makes a plugin of each kind: it has to build, to pass what
// plugintest asks of it, and to be taken by plugins verify, with nothing fetched.
func TestPluginsNew(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// Names that a host takes and Go could trip over.
	for kind, name := range map[string]string{"partitioner": "9-my_windows", "retention": "type", "compression": "my-own"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "made")
			millrace(t, done, "", "plugins", "new", kind, name, "--dir", dir, "--module", "example.com/own", "--replace", checkout)
			for _, args := range [][]string{{"vet", "./..."}, {"build", "-o", "program", "."}, {"test", "./..."}} {
				cmd := exec.CommandContext(t.Context(), "go", args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", cmd, err, out)
				}
			}
			r := millrace(t, done, "", "plugins", "verify", filepath.Join(dir, "program"))
			says(t, r.Stdout, "ok  ")
			says(t, r.Stdout, name)
			formatted(t, dir)
			r = millrace(t, usage, "", "plugins", "new", kind, name, "--dir", dir)
			says(t, r.Stderr, "not empty")
		})
	}
}

// TestPluginsNewFolder looks at what is made inside of a checkout and elsewhere without
// --replace, and what is refused.
func TestPluginsNewFolder(t *testing.T) {
	t.Parallel()
	const replace = "replace github.com/millrace/millrace => "
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "inside")
	inside := exec.CommandContext(t.Context(), harness.Binary(t), "plugins", "new", "retention", "mine", "--dir", dir)
	inside.Dir = filepath.Join(checkout, "test", "cli") // in a module of its own, further down
	if text, err := inside.CombinedOutput(); err != nil || strings.Contains(string(text), "go mod tidy") {
		t.Fatalf("%v\n%s", err, text)
	}
	says(t, read(t, dir, "go.mod"), "module mine\n")
	says(t, read(t, dir, "go.mod"), replace+strconv.Quote(checkout))

	dir = filepath.Join(t.TempDir(), "outside")
	says(t, millrace(t, done, "", "plugins", "new", "retention", "mine", "--dir", dir).Stdout, "go mod tidy")
	says(t, read(t, dir, "README.md"), "go mod tidy")
	mod := read(t, dir, "go.mod")
	if strings.Contains(mod, replace) {
		t.Errorf("there is no checkout, and go.mod has one:\n%s", mod)
	}

	empty, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words string
		args  []string
	}{
		{"is not empty", []string{"retention", "mine", "--dir", dir}},
		{"file", []string{"retention", "mine", "--dir", file}},
		{"lower-case letters", []string{"retention", "My Own", "--dir", empty}},
		{"lower-case letters", []string{"retention", "../mine", "--dir", empty}},
		{"lower-case letters", []string{"retention", "_mine", "--dir", empty}},
		{"want one of partitioner, retention, compression", []string{"storage", "mine", "--dir", empty}},
		{"is built in", []string{"partitioner", "murmur2", "--dir", empty}},
		{"NAME is missing", []string{"partitioner", "--dir", empty}},
		{"want one such as example.com/mine", []string{"retention", "mine", "--dir", empty, "--module", "a b"}},
		{"errors is Go's own", []string{"retention", "errors", "--dir", empty}},
		{"checkout of Millrace", []string{"retention", "mine", "--dir", empty, "--replace", empty}},
	} {
		says(t, millrace(t, usage, "", append([]string{"plugins", "new"}, c.args...)...).Stderr, c.words)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("what was refused left %v behind (%v)", left, err)
	}
}

// formatted holds that gofmt has nothing to change.
func formatted(t *testing.T, dir string) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(sources) != 3 {
		t.Fatalf("the sources are %v (%v)", sources, err)
	}
	for _, file := range sources {
		text := read(t, dir, filepath.Base(file))
		if want, err := format.Source([]byte(text)); err != nil || string(want) != text {
			t.Errorf("gofmt would change %s (%v)", file, err)
		}
	}
}

func read(t *testing.T, dir, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
