package host_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/partitioners/partitionertest"
	"github.com/millrace/millrace/plugins/host"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/compression/compressiontest"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// logged is a log to look into.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// settings are those of one plugin called p whose program is this test's.
func settings(t testing.TB, mode string, more ...string) map[string]string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := map[string]string{
		"plugin.p.path": self, "plugin.p.environment": modeEnv + "=" + mode + ",GORACE=atexit_sleep_ms=0", // a second otherwise
		"plugin.p.restart.backoff.ms": "1", "plugin.p.start.timeout.ms": "60000",
		"plugin.p.health.interval.ms": "60000", "plugin.p.call.timeout.ms": "60000", // no test that means another bound waits for these
	}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		if old, ok := s[k]; ok && k == "plugin.p.environment" {
			v = old + "," + v
		}
		s[k] = v
	}
	return s
}

func open(t testing.TB, s map[string]string) (*host.Host, *logged, error) {
	t.Helper()
	h, configure, log, err := start(t, s)
	if err == nil {
		err = configure()
	}
	return h, log, err
}

// start opens a host and answers how to configure it.
func start(t testing.TB, s map[string]string) (*host.Host, func() error, *logged, error) {
	t.Helper()
	get := func(name string) (string, bool) { v, ok := s[name]; return v, ok }
	var names []string
	for name := range s {
		if strings.HasPrefix(name, "plugin") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	specs, err := host.ReadSpecs(names, get)
	if err != nil {
		return nil, nil, nil, err
	}
	compressors, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	all, err := partitioners.All()
	if err != nil {
		t.Fatal(err)
	}
	reg, err := core.NewRegistry("partitioner", all...)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := retention.All()
	if err != nil {
		t.Fatal(err)
	}
	retentions, err := core.NewRegistry("retention", policies...)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	h, err := host.Open(t.Context(), host.Options{
		Plugins: specs, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Clock: core.SystemClock{}, BrokerVersion: "test", Partitioners: reg, Retentions: retentions, Compressors: &compressors,
	})
	if err == nil {
		t.Cleanup(h.Close)
	}
	return h, func() error { return h.Configure(t.Context(), core.Env{Settings: get}) }, log, err
}

func mustOpen(t testing.TB, s map[string]string) (*host.Host, *logged) {
	t.Helper()
	h, log, err := open(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return h, log
}

// parts of a host's one plugin.
func partitioner(t testing.TB, h *host.Host) core.Partitioner {
	t.Helper()
	p, err := h.Partitioners()[0].New(t.Context(), core.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func policy(t testing.TB, h *host.Host) core.Retention {
	t.Helper()
	p, err := h.Retentions()[0].New(t.Context(), core.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func compressor(t testing.TB, h *host.Host) core.Compressor {
	t.Helper()
	c, err := h.Compressors()[0].New(t.Context(), core.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// await polls until ok; a slow machine has long been there when it gives up.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); {
		if time.Since(begin) > 3*time.Minute {
			t.Fatalf("%s: not in time", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSuites runs the suites of the seams across a real process.
func TestSuites(t *testing.T) {
	t.Parallel()
	for _, mtls := range []string{"false", "true"} {
		// The codec is flipped through, bit by bit, where it is; 8 MiB are more than gRPC
		// carries unless it is told to.
		flip := 17
		if mtls == "true" {
			flip = 101
		}
		h, _ := mustOpen(t, settings(t, "good", "plugin.p.mtls="+mtls))
		t.Run("mtls="+mtls, func(t *testing.T) {
			t.Parallel()
			t.Run("partitioner", func(t *testing.T) {
				partitionertest.Run(t, partitionertest.Options{New: func(t testing.TB) core.Partitioner { return partitioner(t, h) }})
			})
			t.Run("retention", func(t *testing.T) {
				retentiontest.Run(t, func(t *testing.T) core.Retention { return policy(t, h) }, retentiontest.Options{SegmentAligned: true, Independent: true})
			})
			t.Run("compression", func(t *testing.T) {
				compressiontest.Run(t, func(t *testing.T) core.Compressor { return compressor(t, h) }, compressiontest.Options{FlipEvery: flip, Bomb: 8 << 20})
			})
		})
	}
}

// TestNoPlugin starts what is none: the message names the plugin and says what to do.
func TestNoPlugin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		settings map[string]string
		want     []string
	}{
		"not there":      {map[string]string{"plugin.p.path": filepath.Join(dir, "nothing")}, []string{"plugin.p.path", "no such file"}},
		"a directory":    {map[string]string{"plugin.p.path": dir}, []string{"plugin.p.path", "no file"}},
		"not executable": {map[string]string{"plugin.p.path": write("plain", "hello", 0o600)}, []string{"chmod +x"}},
		"no program":     {map[string]string{"plugin.p.path": write("text", "just text", 0o700)}, []string{"plugin p", "millrace plugins verify"}},
		"a script":       {map[string]string{"plugin.p.path": write("script", "#!/bin/sh\necho hello\n", 0o700)}, []string{"hello", "sdk/plugin"}},
		"true":           {map[string]string{"plugin.p.path": "/bin/true"}, []string{"plugin p", "exit code 0"}},
		"exits":          {settings(t, "exit"), []string{"exit status 3"}},
		"garbage":        {settings(t, "garbage"), []string{"Zounds"}},
		"silent":         {settings(t, "silent", "plugin.p.start.timeout.ms=300"), []string{"timeout"}},
		"wrong version": {map[string]string{"plugin.p.path": write("v99", "#!/bin/sh\necho '1|99|unix|/nowhere|grpc|'\nsleep 5\n", 0o700)},
			[]string{"plugin p", "version 99", "speaks version 1", "build it anew"}},
		"wrong protocol": {map[string]string{"plugin.p.path": write("netrpc", "#!/bin/sh\necho '1|1|unix|/nowhere|netrpc|'\nsleep 5\n", 0o700)},
			[]string{"netrpc"}},
		"checksum":       {settings(t, "good", "plugin.p.sha256="+strings.Repeat("00", 32)), []string{"another checksum", "plugin.p.sha256"}},
		"bad checksum":   {settings(t, "good", "plugin.p.sha256=12"), []string{"64 hexadecimal digits"}},
		"its settings":   {settings(t, "good", "test.base=-1"), []string{"refuses its settings", "test.base=-1"}},
		"unknown":        {settings(t, "good", "plugin.p.pth=x"), []string{"plugin.p.pth", "no such setting"}},
		"not a number":   {settings(t, "good", "plugin.p.nice=very"), []string{"plugin.p.nice=very", "a number from -20 to 19"}},
		"no path":        {map[string]string{"plugin.q.nice": "1"}, []string{"plugin.q.path"}},
		"bad name":       {map[string]string{"plugin.P!.path": "/bin/true"}, []string{"small letters"}},
		"fallback":       {settings(t, "good", "plugin.p.fallback=nobody"), []string{"plugin.p.fallback=nobody", "murmur2", "time-size"}},
		"two fallbacks":  {settings(t, "good", "plugin.p.fallback=murmur2,fnv1a"), []string{"plugin.p.fallback", "murmur2 and fnv1a", "one kind"}},
		"no such folder": {map[string]string{"plugins.dir": filepath.Join(dir, "nowhere")}, []string{"plugins.dir"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := open(t, c.settings)
			if err == nil {
				t.Fatal("it was taken for a plugin")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message %q says nothing of %q", err, want)
				}
			}
		})
	}
}

func TestChecksumAndDir(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := host.Checksum(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "millrace-plugin-p")); err != nil {
		t.Fatal(err)
	}
	s := settings(t, "good", "plugin.p.sha256="+hex.EncodeToString(sum), "plugins.dir="+dir)
	delete(s, "plugin.p.path")
	h, _ := mustOpen(t, s)
	if l := h.List(); len(l) != 1 || l[0].State != host.Running || len(l[0].Components) != 3 {
		t.Fatalf("plugins: %+v", l)
	}
}

// records to place, and where the fallback places them.
func records() ([]core.RecordView, core.TopicInfo) {
	var rs []core.RecordView
	for i := range 100 {
		rs = append(rs, core.RecordView{Key: fmt.Appendf(nil, "key-%d", i)})
	}
	return rs, core.TopicInfo{Name: "t", Partitions: slices.Repeat([]core.PartitionInfo{{Available: true}}, 7)}
}

// TestBadPlugins: whatever a plugin does in a call, the broker's work gets done.
func TestBadPlugins(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"crash", "panic", "hang", "refuse", "lie", "stdout", "chatty", "good"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			timeout := "60000"
			if mode == "hang" {
				timeout = "100" // for nothing: it does not answer
			}
			h, log := mustOpen(t, settings(t, mode, "plugin.p.call.timeout.ms="+timeout, "plugin.p.breaker.failures=2",
				"plugin.p.breaker.reset.ms=60000", "plugin.p.stop.timeout.ms=100"))
			p, c, r := partitioner(t, h), compressor(t, h), policy(t, h)
			rs, topic := records()
			want, got := make([]int32, len(rs)), make([]int32, len(rs))
			if err := partitioners.NewMurmur2(partitioners.Options{}).Partition(t.Context(), topic, rs, want); err != nil {
				t.Fatal(err)
			}
			views := retentiontest.Views(3, 20)
			for range 4 {
				if err := p.Partition(t.Context(), topic, rs, got); err != nil || !slices.Equal(got, want) {
					t.Fatalf("records were not placed as by the fallback: %v", err)
				}
				src := compressiontest.Text(5000)
				out, err := c.Compress(nil, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
				if err != nil {
					t.Fatalf("compress: %v", err)
				}
				all, err := compression.Default()
				if err != nil {
					t.Fatal(err)
				}
				if back, err := all[record.Gzip].Decompress(nil, out, core.CompressionParams{Magic: 2}); err != nil || !bytes.Equal(back, src) {
					t.Fatalf("what was compressed does not come back: %v", err)
				}
				// A policy that cannot be asked deletes nothing.
				decisions, err := r.Decide(t.Context(), views)
				if mode == "lie" && len(decisions) > 0 {
					t.Fatalf("decisions past the high watermark are followed: %v", decisions)
				}
				if bad := mode != "good" && mode != "stdout" && mode != "chatty" && mode != "lie"; bad != (err != nil) || bad && decisions != nil {
					t.Fatalf("retention: %d decisions, %v", len(decisions), err)
				}
			}
			s := h.List()[0]
			switch mode {
			case "good", "chatty", "stdout":
				if s.Failures+s.Fallbacks+s.Nonsense+s.Restarts != 0 {
					t.Errorf("a good plugin had failures: %+v", s)
				}
			case "lie":
				if s.Nonsense == 0 || !strings.Contains(log.String(), "makes no sense") {
					t.Errorf("nobody noticed the lies: %+v", s)
				}
			default:
				open := 0
				for _, c := range s.Components {
					if c.BreakerOpen {
						open++
					}
				}
				if s.Fallbacks == 0 || mode != "crash" && open == 0 {
					t.Errorf("no fallback, or no breaker opened: %+v", s)
				}
			}
			if mode == "stdout" && !strings.Contains(log.String(), "hello from stdout") {
				t.Error("what the plugin printed is not in the log")
			}
			if mode == "chatty" && strings.Count(log.String(), "bla bla") > 5000 {
				t.Error("a flood of lines got into the log")
			}
		})
	}
}

// TestGarbageOpensNoBreaker: bytes of a client that do not decompress say nothing against
// the plugin.
func TestGarbageOpensNoBreaker(t *testing.T) {
	t.Parallel()
	h, _ := mustOpen(t, settings(t, "good", "plugin.p.breaker.failures=2"))
	c := compressor(t, h)
	for range 10 {
		if _, err := c.Decompress(nil, []byte("no gzip at all"), core.CompressionParams{Magic: 2}); !errors.Is(err, core.ErrCodec) {
			t.Fatalf("garbage: %v", err)
		}
	}
	if s := h.List()[0]; s.Failures+s.Fallbacks > 0 || slices.ContainsFunc(s.Components, func(c host.ComponentStatus) bool { return c.BreakerOpen }) {
		t.Errorf("after garbage: %+v", s)
	}
}

// TestCrashOnce: a call that the plugin dies under is made once more, and nobody
// notices.
func TestCrashOnce(t *testing.T) {
	t.Parallel()
	h, log := mustOpen(t, settings(t, "crash once", "plugin.p.call.timeout.ms=60000",
		"plugin.p.environment=HOST_TEST_FILE="+filepath.Join(t.TempDir(), "once")))
	rs, topic := records()
	if err := partitioner(t, h).Partition(t.Context(), topic, rs, make([]int32, len(rs))); err != nil {
		t.Fatal(err)
	}
	if s := h.List()[0]; s.Retries != 1 || s.Fallbacks != 0 || s.Restarts != 1 {
		t.Fatalf("%+v\n%s", s, log)
	}
}

// TestKilled kills the process again and again, and looks whether it comes back.
func TestKilled(t *testing.T) {
	t.Parallel()
	h, _ := mustOpen(t, settings(t, "good", "plugin.p.restart.max=1000"))
	for i := range 3 {
		pid := h.List()[0].PID
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "another process", func() bool {
			s := h.List()[0]
			return s.State == host.Running && s.PID != pid
		})
		if s := h.List()[0]; s.Restarts != uint64(i+1) {
			t.Fatalf("%+v", s)
		}
	}
}

// TestGivesUp: after too many failed starts the plugin is left alone until an operator
// restarts it.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	h, log := mustOpen(t, settings(t, "good", "plugin.p.restart.max=0"))
	if err := syscall.Kill(h.List()[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "failed", func() bool { return h.List()[0].State == host.Failed })
	rs, topic := records()
	if err := partitioner(t, h).Partition(t.Context(), topic, rs, make([]int32, len(rs))); err != nil {
		t.Fatal(err) // the fallback
	}
	if err := h.Restart(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	await(t, "running", func() bool { return h.List()[0].State == host.Running })
	if !strings.Contains(log.String(), "millrace plugins restart") {
		t.Error("the log does not say how to go on")
	}
	if err := h.Restart(t.Context(), "nobody"); !errors.Is(err, core.ErrNotFound) || !strings.Contains(err.Error(), "there are: ") {
		t.Error(err)
	}
}

// TestReload: a new program takes over while calls go on, and none of them fails; one
// that is no good does not.
func TestReload(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p")
	install := func(version string) {
		script := fmt.Sprintf("#!/bin/sh\nHOST_TEST_VERSION=%s exec %s\n", version, self)
		if version == "broken" {
			script = "#!/bin/sh\nexit 1\n"
		}
		if err := os.WriteFile(path+".new", []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	install("1")
	h, log := mustOpen(t, settings(t, "good", "plugin.p.path="+path))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	rs, topic := records()
	for range 2 {
		p := partitioner(t, h)
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := p.Partition(context.WithoutCancel(ctx), topic, rs, make([]int32, len(rs))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	install("2")
	if err := h.Reload(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if s := h.List()[0]; s.Version != "2" || s.Fallbacks != 0 || s.Failures != 0 {
		t.Errorf("after the reload: %+v\n%s", s, log)
	}
	install("broken")
	if err := h.Reload(t.Context(), "p"); err == nil {
		t.Error("a broken program took over")
	}
	cancel()
	wg.Wait()
	if s := h.List()[0]; s.Version != "2" || s.State != host.Running || s.Fallbacks != 0 {
		t.Errorf("after the broken one: %+v", s)
	}
}

// TestForked: what a plugin has started dies with it.
func TestForked(t *testing.T) {
	t.Parallel()
	h, log := mustOpen(t, settings(t, "fork"))
	child := loggedChild(t, log)
	h.Close()
	await(t, "the child's end", func() bool { return !alive(child) })
}

// alive is false for a process that is gone or a zombie.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}
