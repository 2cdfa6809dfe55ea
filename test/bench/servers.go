package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server under measurement.
type process struct {
	cmd   *exec.Cmd
	addr  string
	stdin io.WriteCloser
	ready time.Duration // from the start to serving
}

func (p *process) stop() error {
	_ = p.stdin.Close() // ends the bare server
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // ended by the signal
	}
	return err
}

// cpu is what the process has used so far, user and system.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const utime, stime, hz = 11, 12, 100
	u, err1 := strconv.ParseInt(fields[utime], 10, 64)
	s, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(u+s) * time.Second / hz, errors.Join(err1, err2)
}

// resident is the memory in use, in bytes.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no VmRSS in the process's status")
}

// startBare starts the bare server, which writes into dir.
func startBare(ctx context.Context, dir string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, append([]string{bareCommand, "-dir", dir}, args...)...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	p.addr = strings.TrimSpace(line)
	return p, err
}

// startMillrace starts a broker and waits until it serves. overrides are name=value.
func startMillrace(ctx context.Context, bin, dir string, overrides ...string) (*process, error) {
	args := []string{"server",
		"--override", "listeners=PLAINTEXT://127.0.0.1:0",
		"--override", "http.listener=127.0.0.1:0",
		"--override", "log.format=json",
		"--override", "log.segment.delete.delay.ms=0",
		"--override", "log.dirs=" + filepath.Join(dir, "data"),
	}
	for _, o := range overrides {
		args = append(args, "--override", o)
	}
	p := &process{cmd: exec.CommandContext(ctx, bin, args...)}
	errOut, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	in := bufio.NewReader(errOut)
	var seen strings.Builder
	for {
		line, err := in.ReadString('\n')
		seen.WriteString(line)
		if err != nil {
			return nil, fmt.Errorf("millrace ended before it was ready: %w\n%s", err, seen.String())
		}
		var ready struct {
			Msg       string            `json:"msg"`
			Listeners map[string]string `json:"listeners"`
		}
		if json.Unmarshal([]byte(line), &ready) == nil && ready.Msg == "ready" {
			p.ready, p.addr = time.Since(start), ready.Listeners["PLAINTEXT"]
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, in) }() // ends with the process
	return p, nil
}

// buildMillrace builds the binary the way the Makefile does, in the folder of its own
// module: this one does not have all that it requires.
func buildMillrace(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/millrace/millrace").Output()
	if err != nil {
		return "", fmt.Errorf("find the module of millrace: %w", err)
	}
	bin := filepath.Join(dir, "millrace")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "./cmd/millrace")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build millrace: %w\n%s", err, out)
	}
	return bin, nil
}
