package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/plugins/rule"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/retention"
)

// modeEnv makes the test's own program a plugin; its value says how it behaves.
const modeEnv = "HOST_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if mode := os.Getenv(modeEnv); mode != "" {
		os.Exit(runPlugin(mode))
	}
	goleak.VerifyTestMain(m)
}

// runPlugin is the plugin's main.
func runPlugin(mode string) int {
	switch mode {
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		return 3
	case "garbage":
		fmt.Println(strings.Repeat("Zounds! ", 100)) // not a handshake
		time.Sleep(time.Minute)
		return 0
	case "silent":
		time.Sleep(time.Minute)
		return 0
	case "bare":
		return echo(os.Getenv("HOST_TEST_FILE"), os.Getenv("HOST_TEST_BYTES"))
	case "wires":
		return serveWires(os.Getenv("HOST_TEST_FILE"))
	case "no frames":
		_ = os.Unsetenv("PLUGIN_UNIX_SOCKET_DIR") // so that it is as one in another language
	case "chatty":
		for range 10_000 {
			fmt.Fprintln(os.Stderr, "bla bla")
		}
	case "fork":
		child := exec.Command("sleep", "600")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			return 1
		}
		fmt.Fprintln(os.Stderr, "child", child.Process.Pid)
	}
	stage("start")
	compressors, err := compression.Default()
	if err != nil {
		return 1
	}
	if mode == "rule" {
		plugin.Serve(plugin.Program("test", "rule"), plugin.Partitioner("test-partitioner", "by rule", struct{}{},
			func(context.Context, core.Env, struct{}) (ruled, error) {
				return ruled{partitioners.NewMurmur2(partitioners.Options{})}, nil
			}))
		return 0
	}
	b := &behaviour{mode: mode}
	opts := []plugin.Option{
		plugin.Program("test", os.Getenv("HOST_TEST_VERSION")),
		plugin.Partitioner("test-partitioner", "a partitioner for tests", partitionerConfig{Base: 0}, func(_ context.Context, _ core.Env, c partitionerConfig) (*testPartitioner, error) {
			stage("configure")
			return &testPartitioner{b, partitioners.NewMurmur2(partitioners.Options{}), c.Base}, nil
		}),
		plugin.Retention("test-retention", "a policy for tests", struct{}{}, func(context.Context, core.Env, struct{}) (*testRetention, error) {
			return &testRetention{b}, nil
		}),
		plugin.Compressor("test-gzip", "gzip for tests", record.Gzip, true, struct{}{}, func(context.Context, core.Env, struct{}) (core.Compressor, error) {
			return &testCompressor{b, compressors[record.Gzip]}, nil
		}),
	}
	if mode == "frames past TLS" {
		return serveAnyway(opts)
	}
	plugin.Serve(opts...)
	return 0
}

// serveAnyway is plugin.Serve that offers frames whatever the broker wants.
func serveAnyway(opts []plugin.Option) int {
	server, err := plugin.NewServer(slog.New(slog.DiscardHandler), opts...)
	if err != nil {
		return 1
	}
	if _, err = server.ListenFrames(filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "frames")); err != nil {
		return 1
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  remote.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{remote.Version: remote.PluginSet(server)},
		Logger:           hclog.NewNullLogger(),
		GRPCServer:       goplugin.DefaultGRPCServer,
	})
	return 0
}

// echo reads a number of bytes and answers another, until there is nothing more to read.
func echo(path, sizes string) int {
	var question, answer int
	if _, err := fmt.Sscan(sizes, &question, &answer); err != nil {
		return 1
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", path)
	if err != nil {
		return 1
	}
	in, out := make([]byte, question), make([]byte, answer)
	for {
		if _, err := io.ReadFull(conn, in); err != nil {
			return 0
		}
		if _, err := conn.Write(out); err != nil {
			return 0
		}
	}
}

// ruled is murmur2 that publishes itself as a rule.
type ruled struct {
	*partitioners.Murmur2Partitioner
}

func (ruled) Rule(context.Context, string, int32) (*rule.Rule, time.Duration, error) {
	return &rule.Rule{Others: rule.Places{All: true}}, 0, nil
}

// behaviour is what every component does before it answers.
type behaviour struct{ mode string }

func (b *behaviour) act() error {
	stage("call")
	switch b.mode {
	case "crash":
		os.Exit(7)
	case "crash once":
		// A file says whether it has happened.
		if _, err := os.Stat(os.Getenv("HOST_TEST_FILE")); err != nil {
			_ = os.WriteFile(os.Getenv("HOST_TEST_FILE"), nil, 0o600)
			os.Exit(7)
		}
	case "panic":
		panic("no idea")
	case "hang":
		time.Sleep(time.Hour)
	case "refuse":
		return errors.New("not in the mood")
	case "one long line":
		_, _ = syscall.Write(1, bytes.Repeat([]byte("x"), 1<<20)) // go-plugin keeps os.Stdout to itself
	case "daemon":
		// A program in C or Python leaves its connection to what it forks unless it takes care.
		child := exec.Command("sleep", "600")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		for fd := 3; fd < 64; fd++ {
			if at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(at, "socket:") {
				child.ExtraFiles = append(child.ExtraFiles, os.NewFile(uintptr(fd), at))
			}
		}
		if err := child.Start(); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "child", child.Process.Pid)
		time.Sleep(time.Hour)
	case "stdout":
		fmt.Println("hello from stdout")
	}
	return nil
}

type partitionerConfig struct {
	Base int `setting:"test.base" doc:"Where it begins to count."`
}

// Validate is asked by Configure.
func (c partitionerConfig) Validate() error {
	if c.Base < 0 {
		return fmt.Errorf("test.base=%d: want at least 0", c.Base)
	}
	return nil
}

type testPartitioner struct {
	*behaviour
	*partitioners.Murmur2Partitioner
	base int
}

func (p *testPartitioner) Partition(ctx context.Context, t core.TopicInfo, records []core.RecordView, out []int32) error {
	if err := p.act(); err != nil {
		return err
	}
	if p.mode == "lie" {
		for i := range out {
			out[i] = int32(len(t.Partitions))
		}
		return nil
	}
	return p.Murmur2Partitioner.Partition(ctx, t, records, out)
}

type testRetention struct{ *behaviour }

func (r *testRetention) Decide(ctx context.Context, logs []core.LogView) ([]core.Decision, error) {
	if err := r.act(); err != nil {
		return nil, err
	}
	if r.mode == "lie" {
		return []core.Decision{{TopicPartition: logs[0].TopicPartition, Start: logs[0].HighWatermark + 1000, Reason: "why not"}}, nil
	}
	return retention.TimeSize{}.Decide(ctx, logs)
}

type testCompressor struct {
	*behaviour
	core.Compressor
}

func (c *testCompressor) Compress(dst, src []byte, p core.CompressionParams) ([]byte, error) {
	if err := c.act(); err != nil {
		return nil, err
	}
	if c.mode == "lie" {
		return c.Compressor.Compress(dst, append([]byte("x"), src...), p)
	}
	return c.Compressor.Compress(dst, src, p)
}
