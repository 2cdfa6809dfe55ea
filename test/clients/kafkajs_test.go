package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

func newJS(t *testing.T) *child {
	return newChild(t, func() (*exec.Cmd, error) {
		if err := installJS(); err != nil {
			return nil, err
		}
		return exec.Command("node", "../js/client.js"), nil
	})
}

func kafkaJS(t *testing.T) client {
	c := newJS(t)
	return client{
		name: "kafkajs", version: "2.2.4", needs: []string{"node", "npm"}, codecs: allCodecs(),
		note: "consumes in groups only; no null in headers", says: kafkaJSSays, produce: c.produce,
	}
}

// kafkaJSReader reads by a group of one member, which docs/compatibility.md has in its table of groups.
func kafkaJSReader(t *testing.T) client {
	c := kafkaJS(t)
	c.consume = newJS(t).consume
	return c
}

// kafkaJSSays: a header's value cannot be null.
func kafkaJSSays(m *message) {
	for i, h := range m.Headers {
		if h.Value == nil {
			m.Headers[i].Value = []byte{}
		}
	}
}

// jsInstall: one npm at a time.
var jsInstall sync.Mutex

// installJS installs what test/js/package-lock.json names, unless that has been done.
func installJS() error {
	jsInstall.Lock()
	defer jsInstall.Unlock()
	lock, err := os.ReadFile("../js/package-lock.json")
	if err != nil {
		return err
	}
	marker := filepath.Join("..", "js", "node_modules", ".installed")
	if done, err := os.ReadFile(marker); err == nil && bytes.Equal(done, lock) {
		return nil
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = filepath.Join("..", "js")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(marker, lock, 0o644)
}

// kafkaJSGroup shares partitions one by one in turn; kafkajs has no other way.
func kafkaJSGroup(t *testing.T) groupClient {
	c := newJS(t)
	return groupClient{
		name: "kafkajs", version: "2.2.4", needs: []string{"node", "npm"}, codecs: allCodecs(),
		assignor: "RoundRobinAssigner", send: c.sendNumbers,
		member: func(addr, group, topic string) (*exec.Cmd, error) {
			if err := installJS(); err != nil {
				return nil, err
			}
			ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
			return exec.Command("node", "../js/client.js", "member", addr, group, topic, ms(groupSession), ms(groupHeartbeat), ms(maxWait)), nil
		},
	}
}
