package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/coordination/coordinationtest"
	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func open(t testing.TB, o embedded.Options) *embedded.Coordinator {
	t.Helper()
	c, err := embedded.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func session(t testing.TB, c *embedded.Coordinator) core.CoordinatorSession {
	t.Helper()
	s, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expire(t testing.TB, c core.Coordinator, s core.CoordinatorSession) {
	t.Helper()
	if err := c.(*embedded.Coordinator).Expire(s.ID()); err != nil {
		t.Fatal(err)
	}
}

func TestConformanceMemory(t *testing.T) {
	t.Parallel()
	coordinationtest.Run(t, coordinationtest.Options{
		Open:   func(t testing.TB) core.Coordinator { return open(t, embedded.Options{Memory: true}) },
		Expire: expire,
	})
}

func TestConformanceDurable(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int64{"default": 0, "rotating often": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dirs sync.Map
			openIn := func(t testing.TB, dir string) core.Coordinator {
				c := open(t, embedded.Options{Dir: dir, LogLimit: limit})
				dirs.Store(core.Coordinator(c), dir)
				return c
			}
			coordinationtest.Run(t, coordinationtest.Options{
				Open: func(t testing.TB) core.Coordinator { return openIn(t, filepath.Join(t.TempDir(), "deep", "tree")) },
				Reopen: func(t testing.TB, c core.Coordinator) core.Coordinator {
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					dir, _ := dirs.Load(c)
					return openIn(t, dir.(string))
				},
				Expire: expire,
			})
		})
	}
}

func TestFactory(t *testing.T) {
	t.Parallel()
	f, err := embedded.Factory()
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "embedded" || len(f.Settings) != 2 {
		t.Errorf("factory %q has settings %v", f.Name, f.Settings)
	}
	base := t.TempDir()
	for _, c := range []struct {
		name     string
		settings map[string]string
		dir      string // where the tree must be; empty is nowhere
	}{
		{"log.dirs", map[string]string{"log.dirs": " " + base + "/d1 , " + base + "/d2", "log.dir": base + "/d3"}, base + "/d1"},
		{"log.dir", map[string]string{"log.dir": base + "/d4"}, base + "/d4"},
		{"own", map[string]string{"log.dirs": base + "/d5", "coordination.embedded.dir": base + "/own"}, base + "/own"},
		{"memory", map[string]string{"log.dirs": base + "/d6", "coordination.embedded.memory": "true"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			co, err := f.New(t.Context(), core.Env{Settings: func(name string) (string, bool) { v, ok := c.settings[name]; return v, ok }})
			if err != nil {
				t.Fatal(err)
			}
			s, err := co.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Commit(t.Context(), core.Create("/a", nil)); err != nil {
				t.Fatal(err)
			}
			if err := co.Close(); err != nil {
				t.Fatal(err)
			}
			if c.dir != "" {
				if _, err := os.Stat(filepath.Join(c.dir, "coordination-log-0")); err != nil {
					t.Error(err)
				}
			} else if _, err := os.Stat(base + "/d6"); !os.IsNotExist(err) {
				t.Errorf("memory mode left files: %v", err)
			}
		})
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, embedded.Options{Dir: dir})
	_, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
	if !errors.Is(err, core.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want %v with the directory", err, core.ErrLocked)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, embedded.Options{Dir: dir})
}

func TestOpenNeedsDir(t *testing.T) {
	t.Parallel()
	if _, err := embedded.Open(t.Context(), embedded.Options{}); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("got %v, want %v", err, core.ErrInvalidConfig)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Open(ctx, embedded.Options{Memory: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestBadPathsSayWhy(t *testing.T) {
	t.Parallel()
	s := session(t, open(t, embedded.Options{Memory: true}))
	for path, want := range map[string]string{
		"":        "it is empty",
		"a":       "must begin with a slash",
		"/a/":     "must not end with a slash",
		"/a//b":   "empty component",
		"/a/../b": "relative components",
		"/a\x00b": "U+0000 at byte 2",
		"/\xff":   "not valid UTF-8",
	} {
		_, err := s.Commit(t.Context(), core.Create(path, nil))
		if !errors.Is(err, embedded.ErrInvalidPath) || !strings.Contains(err.Error(), want) {
			t.Errorf("create %q: got %v, want %q", path, err, want)
		}
	}
}

func TestSizeLimits(t *testing.T) {
	t.Parallel()
	s := session(t, open(t, embedded.Options{Memory: true}))
	if _, err := s.Commit(t.Context(), core.Create("/most", make([]byte, embedded.MaxData))); err != nil {
		t.Error(err)
	}
	if _, err := s.Commit(t.Context(), core.Create("/more", make([]byte, embedded.MaxData+1))); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, core.ErrTooLarge)
	}
	var ops []core.Op
	for range embedded.MaxCommit/embedded.MaxData + 1 {
		ops = append(ops, core.Set("/most", make([]byte, embedded.MaxData), core.AnyVersion))
	}
	if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, core.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, core.ErrTooLarge)
	}
}

func TestExpireUnknown(t *testing.T) {
	t.Parallel()
	c := open(t, embedded.Options{Memory: true})
	s := session(t, c)
	if ids := c.Sessions(); len(ids) != 1 || ids[0] != s.ID() {
		t.Errorf("sessions %v, want %d", ids, s.ID())
	}
	if err := c.Expire(s.ID() + 1); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("got %v, want %v", err, core.ErrNotFound)
	}
}
