package python

import (
	"bytes"
	"fmt"
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

// install makes an environment with what requirements.txt names, unless that has been
// done, and the program that runs plugin.py in it.
func install(t *testing.T) string {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(here, "target", "venv")
	python, marker := filepath.Join(env, "bin", "python"), filepath.Join(env, "installed")
	if have, err := os.ReadFile(marker); err != nil || !bytes.Equal(have, wanted) {
		run := func(name string, args ...string) {
			if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("%s %v: %v\n%s", name, args, err, out)
				}
				t.Skipf("no Python with venv, or no network for pip: %s %v: %v\n%s", name, args, err, out)
			}
		}
		run("python3", "-m", "venv", "--clear", env)
		run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", "requirements.txt")
		if err := os.WriteFile(marker, wanted, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	made := t.TempDir()
	cmd := exec.CommandContext(t.Context(), python, "-m", "grpc_tools.protoc", "-I", filepath.Join("..", "..", "plugins", "proto", "v0"),
		"--python_out="+made, "--grpc_python_out="+made, "plugin.proto")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	program := filepath.Join(made, "numbers")
	text := fmt.Sprintf("#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 PYTHONPATH='%s' exec '%s' '%s'\n", made, python, filepath.Join(here, "plugin.py"))
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}
