package host_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/plugins/host"
)

// TestLimits: the kernel has the limits of the settings, and the environment is the
// settings' alone.
func TestLimits(t *testing.T) {
	t.Setenv("HOST_TEST_SECRET", "of the broker")
	h, _ := mustOpen(t, settings(t, "good", "plugin.p.open.files.max=123", "plugin.p.nice=7", "plugin.p.memory.max.bytes=1000000000", "plugin.p.environment=MINE=1"))
	proc := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", h.List()[0].PID, name))
		if err != nil {
			t.Skip("no /proc:", err)
		}
		return string(b)
	}
	i := strings.Index(proc("limits"), "Max open files")
	if f := strings.Fields(proc("limits")[i:]); f[3] != "123" || f[4] != "123" {
		t.Errorf("open files: %v", f[:5])
	}
	stat := proc("stat")
	const nice = 16 // after the name, which is the second field of 19
	if f := strings.Fields(stat[strings.LastIndex(stat, ")")+1:]); f[nice] != "7" {
		t.Errorf("nice: %s", f[nice])
	}
	env := strings.Split(proc("environ"), "\x00")
	for _, want := range []string{"GOMEMLIMIT=900000000", "MINE=1"} {
		if !slices.Contains(env, want) {
			t.Errorf("environment without %s: %q", want, env)
		}
	}
	for _, kv := range env {
		if strings.HasPrefix(kv, "HOST_TEST_SECRET") || strings.HasPrefix(kv, "HOME=") {
			t.Errorf("the broker's %s was passed on", kv)
		}
	}
}

// TestHandler: the pages that millrace plugins asks.
func TestHandler(t *testing.T) {
	t.Parallel()
	h, _ := mustOpen(t, settings(t, "good"))
	ask := func(method, path, site string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	pid := h.List()[0].PID
	for _, c := range []struct {
		method, path, site string
		code               int
		want               string
	}{
		{"GET", "/plugins", "none", 200, `"name":"p"`},
		{"POST", "/plugins/nobody/restart", "none", 404, `"error":`},
		{"POST", "/plugins/p/restart", "cross-site", 403, ""},
		{"GET", "/plugins/p/restart", "none", 405, ""},
		{"POST", "/plugins/p/restart", "none", 200, `"restarts":1`},
		{"POST", "/plugins/p/reload", "same-origin", 200, `"restarts":2`},
	} {
		if code, body := ask(c.method, c.path, c.site); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s %s from %s: %d %s", c.method, c.path, c.site, code, body)
		}
	}
	if h.List()[0].PID == pid {
		t.Error("it is the old process")
	}
}

// TestRestartAnswers: who restarts a failed plugin hears whether it runs, not that it will
// be tried.
func TestRestartAnswers(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	h, _ := mustOpen(t, settings(t, "good", "plugin.p.path="+path, "plugin.p.restart.max=0"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(h.List()[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "failed", func() bool { return h.List()[0].State == host.Failed })
	if err := h.Restart(t.Context(), "p"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a restart that did not work: %v", err)
	}
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	await(t, "failed again", func() bool { return h.List()[0].State == host.Failed })
	if err := h.Restart(t.Context(), "p"); err != nil || h.List()[0].State != host.Running {
		t.Errorf("a restart that worked: %v, %s", err, h.List()[0].State)
	}
}

// TestGivesUpStarting: a start that nobody waits for any more ends long before its timeout
// (settings gives it a minute), and leaves no process.
func TestGivesUpStarting(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "started")
	path := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho $$ > "+mark+"\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	spec, err := host.DefaultSpec("p", path)
	if err != nil {
		t.Fatal(err)
	}
	spec.StartTimeout = 1 << 40 // 18 minutes
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := host.Inspect(ctx, spec, func(string) (string, bool) { return "", false }, discard())
		done <- err
	}()
	await(t, "its start", func() bool { b, err := os.ReadFile(mark); return err == nil && len(b) > 0 })
	cancel()
	if err := <-done; err == nil {
		t.Error("it was taken for a plugin")
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestWhichWay: partitioners are asked by frames, by gRPC where the plugin offers none, and
// never past TLS; a process that is gone leaves no connection.
func TestWhichWay(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/unix"); err != nil {
		t.Skip("no /proc:", err)
	}
	for _, c := range []struct {
		name, mode, mtls string
		sockets          int // the one that listens, and one connection, which does for one producer
	}{
		{"frames", "good", "false", 2}, {"none offered", "no frames", "false", 0}, {"TLS", "good", "true", 0},
		{"offered past TLS", "frames past TLS", "true", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, _ := mustOpen(t, settings(t, c.mode, "plugin.p.mtls="+c.mtls, "plugin.p.call.timeout.ms=60000"))
			socket := func() string {
				env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", h.List()[0].PID))
				if err != nil {
					t.Fatal(err)
				}
				for _, kv := range strings.Split(string(env), "\x00") {
					if dir, ok := strings.CutPrefix(kv, "PLUGIN_UNIX_SOCKET_DIR="); ok {
						return filepath.Join(dir, "frames")
					}
				}
				t.Fatalf("no directory for sockets in %q", env)
				return ""
			}
			// The kernel lists the one that listens, and each connection that it took.
			sockets := func(path string) int {
				all, err := os.ReadFile("/proc/net/unix")
				if err != nil {
					t.Fatal(err)
				}
				return strings.Count(string(all), " "+path+"\n")
			}
			p := partitioner(t, h)
			rs, topic := records()
			for i := range 3 {
				path := socket()
				for range 5 {
					if err := p.Partition(t.Context(), topic, rs, make([]int32, len(rs))); err != nil {
						t.Fatal(err)
					}
				}
				if n := sockets(path); n != c.sockets {
					t.Errorf("start %d: %d sockets for frames, want %d", i, n, c.sockets)
				}
				if err := h.Restart(t.Context(), "p"); err != nil {
					t.Fatal(err)
				}
				await(t, "the end of the old process's sockets", func() bool { return sockets(path) == 0 })
			}
			if s := h.List()[0]; s.Fallbacks+s.Failures+s.Retries > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
