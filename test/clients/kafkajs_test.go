package clients_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func kafkaJS(t *testing.T) client {
	c := newChild(t, func() (*exec.Cmd, error) {
		if err := installJS(); err != nil {
			return nil, err
		}
		return exec.Command("node", "../js/client.js"), nil
	})
	return client{
		name: "kafkajs", version: "2.2.4", needs: []string{"node", "npm"}, codecs: allCodecs(),
		note: "consumes in groups only; no null in headers", says: kafkaJSSays, produce: c.produce,
	}
}

// kafkaJSSays: a header's value cannot be null.
func kafkaJSSays(m *message) {
	for i, h := range m.Headers {
		if h.Value == nil {
			m.Headers[i].Value = []byte{}
		}
	}
}

// installJS installs what test/js/package-lock.json names, unless that has been done.
func installJS() error {
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
