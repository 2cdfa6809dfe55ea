package cli_test

import (
	"archive/zip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

const module = "github.com/millrace/millrace"

// TestPluginsNewPublished is somebody without a checkout: a module proxy has two releases, the
// command is installed from the older one, and what it makes is tidied, tested,
// built and verified as its README says.
func TestPluginsNewPublished(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	publish(t, root, filepath.Join(dir, "proxy"), "v0.1.0", "v0.2.0")
	env := append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOSUMDB=off", "GOBIN="+filepath.Join(dir, "bin"),
		"GOMODCACHE="+filepath.Join(dir, "mod"), "GOFLAGS=-trimpath -modcacherw", // or it could not be removed
		// All else comes from the machine's own cache, and from the network when it is not there.
		"GOPROXY=file://"+filepath.Join(dir, "proxy")+",file://"+goEnv(t, "GOMODCACHE")+"/cache/download,"+goEnv(t, "GOPROXY"))
	run := func(in, program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Env = in, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run(dir, "go", "install", module+"/cmd/millrace@v0.1.0")
	command := filepath.Join(dir, "bin", "millrace")
	for _, kind := range []string{"partitioner", "retention", "compression"} {
		made := filepath.Join(dir, kind)
		says(t, run(dir, command, "plugins", "new", kind, "own", "--dir", made), "go mod tidy")
		run(made, "go", "mod", "tidy")
		says(t, read(t, made, "go.mod"), "require "+module+" v0.1.0\n")
		run(made, "go", "vet", "./...")
		if kind == "retention" { // the cheapest; TestPluginsNew has all
			run(made, "go", "test", "./...")
		}
		run(made, "go", "build", "-o", "own", ".")
		says(t, run(made, harness.Binary(t), "plugins", "verify", "./own"), "ok  "+kind+" own")
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// publish lays out what a module proxy answers for versions of the checkout.
func publish(t *testing.T, root, proxy string, versions ...string) {
	t.Helper()
	at := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"list": strings.Join(versions, "\n")}
	for _, v := range versions {
		files[v+".info"] = `{"Version":"` + v + `","Time":"2026-01-02T03:04:05Z"}`
		files[v+".mod"] = read(t, root, "go.mod")
		pack(t, root, filepath.Join(at, v+".zip"), module+"@"+v+"/")
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// pack makes the zip of the checkout: without the modules further down, and what is no part of it.
func pack(t *testing.T, root, out, prefix string) {
	t.Helper()
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	tree := os.DirFS(root)
	err = fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == ".":
			return err
		case d.IsDir():
			_, noModule := fs.Stat(tree, path+"/go.mod")
			if noModule == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "target" || path == "bin" {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular() || strings.HasSuffix(path, ".pyz"):
			return nil
		}
		w, err := z.Create(prefix + path)
		if err != nil {
			return err
		}
		in, err := tree.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }() // only read
		_, err = io.Copy(w, in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
