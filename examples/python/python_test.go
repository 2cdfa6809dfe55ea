package python

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/sdk/plugintest"
)

// TestPlugin holds the contract against a program that has nothing of the SDK: the
// same kit as for plugins in Go, behind the broker's own host.
func TestPlugin(t *testing.T) {
	plugintest.Run(t, plugintest.Options{Program: install(t), Settings: map[string]string{"partitioner.numbers.offset": "3"}})
}

// install builds the program as README.md says.
func install(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "numbers.pyz")
	if out, err := exec.CommandContext(t.Context(), "./build.sh", program).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build.sh: %v\n%s", err, out)
		}
		t.Skipf("no Python with venv, or no network for pip: %v\n%s", err, out)
	}
	return program
}
