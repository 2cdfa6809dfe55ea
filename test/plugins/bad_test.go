package plugins_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// TestBadStart: a plugin that is no good keeps the broker from starting, with a message
// that says what to do.
func TestBadStart(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho hello\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	good := "plugin.t.path=" + program(t)
	for name, c := range map[string]struct {
		overrides []string
		says      string
	}{
		"no such file":            {[]string{"plugin.t.path=/nowhere/at/all"}, "plugin.t.path"},
		"no plugin":               {[]string{"plugin.t.path=" + script}, "millrace plugins verify"},
		"checksum":                {[]string{good, "plugin.t.sha256=" + strings.Repeat("ab", 32)}, "change the setting"},
		"its settings":            {[]string{good, "test.base=-1"}, "want at least 0"},
		"name is taken":           {[]string{good, "plugin.t.environment=TEST_MODE=taken"}, "murmur2"},
		"its version":             {[]string{good, "plugin.t.environment=TEST_MODE=version"}, "it speaks version 99 of the contract, and this broker, release"},
		"its version, what to do": {[]string{good, "plugin.t.environment=TEST_MODE=version"}, "build it anew"},
		"no such option":          {[]string{good, "plugin.t.pathh=x"}, "there is no such setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"server", "--override", "listeners=PLAINTEXT://127.0.0.1:0", "--override", "log.dirs=" + t.TempDir()}
			for _, o := range c.overrides {
				args = append(args, "--override", o)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := harness.Millrace(ctx, t, "", args...)
			if r.Code != 2 || !strings.Contains(r.Stderr, c.says) {
				t.Errorf("exit code %d, want 2 and %q in\n%s", r.Code, c.says, r.Stderr)
			}
		})
	}
}

// TestBadRunning: whatever a plugin does, what is produced is acknowledged and there.
func TestBadRunning(t *testing.T) {
	t.Parallel()
	for mode, bad := range map[string]func(harness.PluginStatus) bool{
		"crash":    func(s harness.PluginStatus) bool { return s.Restarts > 0 && s.Fallbacks > 0 },
		"loop":     func(s harness.PluginStatus) bool { return s.State != "running" && s.LastError != "" },
		"never":    func(s harness.PluginStatus) bool { return s.Failures > 0 && s.Fallbacks > 0 },
		"nonsense": func(s harness.PluginStatus) bool { return s.Nonsense > 0 && s.Fallbacks > 0 },
		"garbage":  func(s harness.PluginStatus) bool { return s.Calls > 0 && s.Failures == 0 },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			limit := "60000"
			if mode == "never" || mode == "loop" { // these wait for it
				limit = "300"
			}
			b := start(t, mode, "plugin.t.call.timeout.ms="+limit, "compression.implementation.gzip=test-gzip")
			create(t, b, "placed", 4, map[string]string{"partitioner": "test-partitioner"})
			create(t, b, "packed", 1, map[string]string{"compression.type": "gzip"})
			if mode == "loop" {
				if err := syscall.Kill(b.PluginStatus(t).PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			c := client(t, b, kgo.DefaultProduceTopic("packed"), kgo.RecordRetries(0))
			const rounds, each = 10, 10
			for i := range rounds {
				post(t, b, "placed", i*each, each)
				if err := c.ProduceSync(t.Context(), &kgo.Record{Value: packedValue(i)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			placed, packed := values(t, b, "placed", rounds*each), values(t, b, "packed", rounds)
			for i := range rounds {
				if _, ok := packed[string(packedValue(i))]; !ok {
					t.Errorf("record %d of packed is lost or has changed", i)
				}
			}
			for i := range rounds * each {
				if _, ok := placed[fmt.Sprintf("value-%d", i)]; !ok {
					t.Errorf("record %d of placed is lost", i)
				}
			}
			harness.Eventually(t, "plugins list says so", func() bool { return bad(b.PluginStatus(t)) })
			if !strings.Contains(b.Log(), `"plugin":"t"`) {
				t.Error("no line of the log names the plugin")
			}
		})
	}
}

// TestCommands: millrace plugins against a broker and against programs.
func TestCommands(t *testing.T) {
	t.Parallel()
	b := start(t, "")
	before := b.PluginStatus(t).PID
	for _, what := range []string{"restart", "reload"} {
		r := harness.Millrace(t.Context(), t, "", "plugins", what, "t", "--http", b.HTTP)
		after := b.PluginStatus(t).PID
		if r.Code != 0 || after == before || after == 0 {
			t.Errorf("plugins %s: exit code %d, process %d before and %d after\n%s", what, r.Code, before, after, r.Stderr)
		}
		before = after
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown":      {[]string{"restart", "nobody", "--http", b.HTTP}, 1, "nobody"},
		"unreachable":  {[]string{"list", "--http", "127.0.0.1:1"}, 3, "127.0.0.1:1"},
		"inspect":      {[]string{"inspect", program(t)}, 0, "test.base"},
		"verify":       {[]string{"verify", program(t)}, 0, "plugin.NAME.sha256="},
		"verify a dir": {[]string{"verify", t.TempDir()}, 2, ""},
	} {
		r := harness.Millrace(t.Context(), t, "", append([]string{"plugins"}, c.args...)...)
		if r.Code != c.code || !strings.Contains(r.Stdout+r.Stderr, c.says) {
			t.Errorf("%s: exit code %d, want %d and %q in\n%s%s", name, r.Code, c.code, c.says, r.Stdout, r.Stderr)
		}
	}
}
