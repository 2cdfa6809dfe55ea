package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/sdk/plugintest"
)

// TestPlugin builds the program with the library, which need not be linked into the
// test itself, and tests it. CI=true makes a missing library an error.
func TestPlugin(t *testing.T) { plugintest.Run(t, plugintest.Options{Program: linked(t)}) }

func BenchmarkPlugin(b *testing.B) { plugintest.Benchmark(b, plugintest.Options{Program: linked(b)}) }

// TestLinked runs the tests that are in the library's build, where it is there.
func TestLinked(t *testing.T) {
	linked(t)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "libdeflate", "-run", "TestCodec|TestLevels", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func linked(t testing.TB) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "libdeflate")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libdeflate", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	text, err := cmd.CombinedOutput()
	if err == nil {
		return out
	}
	probe := exec.CommandContext(t.Context(), "cc", "-include", "libdeflate.h", "-E", "-x", "c", os.DevNull)
	if probe.Run() == nil || os.Getenv("CI") == "true" {
		t.Fatalf("build with libdeflate: %v\n%s", err, text)
	}
	t.Skip("a C compiler or libdeflate-dev is missing; test/install.sh installs them")
	return ""
}
