package host_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dirEnv names the directory by which a test tells its plugin what to do in each stage of
// its life. Its value is also how the plugin's processes are found.
const dirEnv = "HOST_TEST_DIR"

// stage does what the test has written into the file of that name: exit, or wait until
// something else is there. It says that it waits with a file of its own.
func stage(name string) {
	dir := os.Getenv(dirEnv)
	if dir == "" {
		return
	}
	file := filepath.Join(dir, name)
	for said := false; ; {
		what, _ := os.ReadFile(file)
		switch string(what) {
		case "exit":
			_ = os.WriteFile(fmt.Sprintf("%s.exit.%d", file, os.Getpid()), nil, 0o600)
			os.Exit(7)
		case "wait":
		default:
			return
		}
		if !said {
			_ = os.WriteFile(fmt.Sprintf("%s.%d", file, os.Getpid()), nil, 0o600)
			said = true
		}
		time.Sleep(time.Millisecond)
	}
}

// script is the plugin's directory, in the test.
type script struct {
	t   testing.TB
	dir string
}

func newScript(t testing.TB) *script {
	t.Helper()
	return &script{t, t.TempDir()}
}

// setting makes the plugin follow the script.
func (s *script) setting() string { return "plugin.p.environment=" + dirEnv + "=" + s.dir }

// set says what to do in a stage from now on.
func (s *script) set(name, what string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file+".new", []byte(what), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

// waits is the process that waits in a stage; it answers once there is one.
func (s *script) waits(name string) int {
	s.t.Helper()
	var pid int
	await(s.t, "a process that waits in "+name, func() bool {
		files, err := filepath.Glob(filepath.Join(s.dir, name+".[0-9]*"))
		if err != nil || len(files) == 0 {
			return false
		}
		if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(files[0]), name+"."), "%d", &pid); err != nil {
			s.t.Fatal(err)
		}
		return os.Remove(files[0]) == nil
	})
	return pid
}

// exits waits for the end of the processes that were to exit in a stage.
func (s *script) exits(name string) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, name+".exit.*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(file), name+".exit.%d", &pid); err != nil {
			s.t.Fatal(err)
		}
		await(s.t, fmt.Sprintf("the end of process %d", pid), func() bool { return !alive(pid) })
		if err := os.Remove(file); err != nil {
			s.t.Fatal(err)
		}
	}
}

// processes are those of the plugin that live.
func (s *script) processes() []int {
	s.t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(names) == 0 {
		s.t.Skip("no /proc")
	}
	var pids []int
	for _, name := range names {
		env, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrPermission) || !strings.Contains(string(env), dirEnv+"="+s.dir) {
			continue // another's, or gone
		}
		var pid int
		if _, err := fmt.Sscanf(name, "/proc/%d/environ", &pid); err != nil {
			s.t.Fatal(err)
		}
		if alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// left waits until so many processes of the plugin live.
func (s *script) left(n int) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("%d processes of the plugin", n), func() bool { return len(s.processes()) == n })
}
