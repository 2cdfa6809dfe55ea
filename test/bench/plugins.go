package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// pluginStartTarget is for a broker that starts three plugins.
const pluginStartTarget = 300 * time.Millisecond

// startWithPlugins starts the broker on empty directories with three of the examples, a process
// each, and without, in turn.
func startWithPlugins(ctx context.Context, o *options) (missed []string, err error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/millrace/millrace").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module of millrace: %w", err)
	}
	settings := []string{"partitioner.regions=eu=0-3,us=4-7"}
	for _, name := range []string{"regions", "hotkeys", "unread"} {
		program := filepath.Join(o.dir, "plugin-"+name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./examples/"+name)
		cmd.Dir = strings.TrimSpace(string(root))
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the plugin %s: %w\n%s", name, err, out)
		}
		settings = append(settings, "plugin."+name+".path="+program)
	}
	ready := map[string][]float64{}
	for round := range max(o.rounds, 5) {
		for who, overrides := range map[string][]string{"without": nil, "plugins": settings} {
			dir := filepath.Join(o.dir, fmt.Sprintf("start-%s-%d", who, round))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
			p, err := startMillrace(ctx, o.millrace, dir, overrides...)
			if err != nil {
				return nil, err
			}
			if err := p.stop(); err != nil {
				return nil, err
			}
			ready[who] = append(ready[who], p.ready.Seconds()*1000)
			fmt.Printf("BenchmarkBroker/start-%s-%d\t1\t%d ns/op\n", who, runtime.NumCPU(), p.ready.Nanoseconds())
		}
	}
	with, without := median(ready["plugins"]), median(ready["without"])
	fmt.Printf("# ready with three plugins after %.0f ms, without after %.0f ms\n", with, without)
	if with > float64(pluginStartTarget.Milliseconds()) {
		missed = append(missed, fmt.Sprintf("ready with three plugins after %.0f ms, wanted %s", with, pluginStartTarget))
	}
	return missed, nil
}
