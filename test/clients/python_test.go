package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// pythonClient is a library that a program of test/python drives.
type pythonClient struct {
	name, program, note string
	says                func(*message)
}

func pythonLibraries() []pythonClient {
	return []pythonClient{
		{name: "confluent-kafka", program: "confluent_client.py"},
		{name: "kafka-python", program: "kafka_python_client.py", note: "no null in headers", says: kafkaJSSays},
	}
}

func pythonClients(t *testing.T) []client {
	var out []client
	for _, p := range pythonLibraries() {
		c := p.child(t)
		out = append(out, client{
			name: p.name, version: p.version(), needs: []string{"python3"}, codecs: allCodecs(),
			note: p.note, says: p.says, produce: c.produce, consume: c.consume,
		})
	}
	return out
}

func pythonGroupClients(t *testing.T) []groupClient {
	var out []groupClient
	for _, p := range pythonLibraries() {
		out = append(out, p.group(t, "range"))
	}
	return out
}

// group is a group of the library; args are further ones of its program.
func (p pythonClient) group(t *testing.T, assignor string, args ...string) groupClient {
	return groupClient{
		name: p.name, version: p.version(), needs: []string{"python3"}, codecs: allCodecs(),
		assignor: assignor, send: p.child(t).sendNumbers,
		member: func(addr, group, topic string) (*exec.Cmd, error) {
			ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
			return p.command(append([]string{"member", addr, group, topic, ms(groupSession), ms(groupHeartbeat), ms(maxWait)}, args...)...)
		},
	}
}

func (p pythonClient) child(t *testing.T) *child {
	return newChild(t, func() (*exec.Cmd, error) { return p.command() })
}

func (p pythonClient) command(args ...string) (*exec.Cmd, error) {
	python, err := installPython()
	if err != nil {
		return nil, err
	}
	return exec.Command(python, append([]string{filepath.Join("..", "python", p.program)}, args...)...), nil
}

// version is the one that test/python/requirements.txt asks for.
func (p pythonClient) version() string {
	text, err := os.ReadFile("../python/requirements.txt")
	if err != nil {
		return "unknown"
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(p.name) + `==(\S+)$`).FindSubmatch(text)
	if m == nil {
		return "unknown"
	}
	return string(m[1])
}

// pythonInstall: one pip at a time.
var pythonInstall sync.Mutex

// installPython makes an environment with what test/python/requirements.txt names,
// unless that has been done, and returns its Python.
func installPython() (string, error) {
	pythonInstall.Lock()
	defer pythonInstall.Unlock()
	root, err := filepath.Abs("../python")
	if err != nil {
		return "", err
	}
	wanted, err := os.ReadFile(filepath.Join(root, "requirements.txt"))
	if err != nil {
		return "", err
	}
	env := filepath.Join(root, "target", "venv")
	python, marker := filepath.Join(env, "bin", "python"), filepath.Join(env, "installed")
	if done, err := os.ReadFile(marker); err == nil && bytes.Equal(done, wanted) {
		return python, nil
	}
	for _, cmd := range []*exec.Cmd{
		exec.Command("python3", "-m", "venv", "--clear", env),
		exec.Command(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", filepath.Join(root, "requirements.txt")),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return python, os.WriteFile(marker, wanted, 0o644)
}
