package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPluginsNew makes a plugin of each kind: it has to build, to pass what
// plugintest asks of it, and to be taken by plugins verify, with nothing fetched.
func TestPluginsNew(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"partitioner", "retention", "compression"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "made")
			millrace(t, done, "", "plugins", "new", kind, "my-own", "--dir", dir, "--module", "example.com/own", "--replace", checkout)
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
			says(t, r.Stdout, "my-own")
			r = millrace(t, usage, "", "plugins", "new", kind, "my-own", "--dir", dir)
			says(t, r.Stderr, "not empty")
		})
	}
	says(t, millrace(t, usage, "", "plugins", "new", "storage", "mine").Stderr, "partitioner, retention, compression")
	says(t, millrace(t, usage, "", "plugins", "new", "retention", "My Own").Stderr, "lower-case")
	says(t, millrace(t, usage, "", "plugins", "new", "retention", "own", "--replace", t.TempDir()).Stderr, "checkout")
}
