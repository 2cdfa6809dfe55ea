// Package modules has three Go modules in its folders; this test of the main module
// builds and runs them.
package modules

import (
	"os"
	"os/exec"
	"testing"
)

// TestModules holds that parts and a broker can be made outside of Millrace's module. A
// failure that asks for go mod tidy wants just that, in the folder it names.
func TestModules(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"prefix", "newest", "broker"} {
		for _, what := range []string{"vet", "test"} {
			cmd := exec.CommandContext(t.Context(), "go", what, "./...")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", dir, cmd, err, out)
			}
		}
	}
}
