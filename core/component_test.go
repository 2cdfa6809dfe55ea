package core_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
)

type engineConfig struct {
	Dirs     []string      `setting:"log.dirs" doc:"where"`
	Size     int64         `setting:"size" doc:"how much"`
	Count    int32         `setting:"count"`
	Delay    time.Duration `setting:"delay.ms" scope:"topic"`
	On       bool          `setting:"on"`
	Ratio    float64       `setting:"ratio"`
	Internal string
}

func (c *engineConfig) Validate() error {
	if c.Count > 10 {
		return errors.New("count: at most 10")
	}
	return nil
}

func engine(t *testing.T, name string) core.Factory[*engineConfig] {
	t.Helper()
	f, err := core.Define(name, "an engine",
		engineConfig{Dirs: []string{"a", "b"}, Size: 7, Delay: time.Second, Ratio: 0.5, Internal: "kept"},
		func(_ context.Context, _ core.Env, cfg engineConfig) (*engineConfig, error) { return &cfg, nil })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func settings(kv ...string) core.Env {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return core.Env{Settings: func(n string) (string, bool) { v, ok := m[n]; return v, ok }}
}

func TestDefineFillsConfig(t *testing.T) {
	t.Parallel()
	f := engine(t, "mmap")
	got, err := f.New(t.Context(), settings("log.dirs", " x , y,", "count", "10", "delay.ms", "250", "on", "TRUE", "ratio", "0.25"))
	if err != nil {
		t.Fatal(err)
	}
	want := &engineConfig{Dirs: []string{"x", "y"}, Size: 7, Count: 10, Delay: 250 * time.Millisecond, On: true, Ratio: 0.25, Internal: "kept"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	again, err := f.New(t.Context(), core.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a", "b"}, again.Dirs); d != "" {
		t.Errorf("the defaults were changed by an earlier use: %s", d)
	}
}

func TestDefineDescribesSettings(t *testing.T) {
	t.Parallel()
	want := []core.SettingDef{
		{Name: "log.dirs", Type: "list", Default: "a,b", Doc: "where"},
		{Name: "size", Type: "long", Default: "7", Doc: "how much"},
		{Name: "count", Type: "int", Default: "0"},
		{Name: "delay.ms", Type: "duration", Default: "1000", Topic: true},
		{Name: "on", Type: "boolean", Default: "false"},
		{Name: "ratio", Type: "double", Default: "0.5"},
	}
	if d := cmp.Diff(want, engine(t, "mmap").Settings); d != "" {
		t.Error(d)
	}
}

func TestDefineRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, says string }{
		{"size", "many", "size=many"},
		{"count", "3000000000", "type int"},
		{"count", "11", "at most 10"},
		{"delay.ms", "1s", "type duration"},
		{"on", "perhaps", "type boolean"},
		{"ratio", "half", "type double"},
	} {
		_, err := engine(t, "mmap").New(t.Context(), settings(c.name, c.value))
		if !errors.Is(err, core.ErrInvalidConfig) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s=%s: got %v, want ErrInvalidConfig that says %q", c.name, c.value, err, c.says)
		}
	}
	type bad struct {
		C chan int `setting:"c"`
	}
	if _, err := core.Define("bad", "", bad{}, func(context.Context, core.Env, bad) (int, error) { return 0, nil }); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("a channel as a setting: got %v", err)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r, err := core.NewRegistry("storage engine", engine(t, "mmap"), engine(t, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Build(t.Context(), "memory", core.Env{}); err != nil || c.Size != 7 {
		t.Errorf("Build: %v, %v", c, err)
	}
	_, err = r.Build(t.Context(), "mmpa", core.Env{})
	if !errors.Is(err, core.ErrUnknownComponent) || !strings.Contains(err.Error(), "known: memory, mmap") {
		t.Errorf("an unknown name: got %v", err)
	}
	if _, err := core.NewRegistry("storage engine", engine(t, "a"), engine(t, "a")); !errors.Is(err, core.ErrInvalidConfig) {
		t.Errorf("two of one name: got %v", err)
	}
}

func TestKafkaCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int16
	}{
		{nil, 0},
		{core.Failf(3, "no topic %s", "x"), 3},
		{errors.Join(errors.New("while"), core.Failf(6, "elsewhere")), 6},
		{core.ErrOffsetOutOfRange, 1},
		{core.ErrNoSpace, 56},
		{core.ErrStorage, 56},
		{core.ErrSessionLost, 41},
		{errors.New("a bug"), -1},
	} {
		if code, _ := core.KafkaCode(c.err); code != c.code {
			t.Errorf("%v: code %d, want %d", c.err, code, c.code)
		}
	}
}
