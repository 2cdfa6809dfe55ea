package config

import (
	"fmt"
	"os"
	"strings"
)

// Peek reads what the sources give without knowing which settings there are, so that
// what brings settings of its own can be found before the table of settings is made. The
// last value of a name counts. In the environment the settings of every broker alone are
// found. What is wrong is left to Load, except a file that cannot be read.
func Peek(src Sources) (map[string]string, error) {
	values := map[string]string{}
	if src.File != "" {
		text, err := os.ReadFile(src.File)
		if err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
		props, _ := ParseProperties(text)
		for _, p := range props {
			values[p.Key] = p.Value
		}
	}
	t, err := NewTable()
	if err != nil {
		return nil, err
	}
	for _, kv := range src.Environ {
		key, value, ok := strings.Cut(kv, "=")
		if rest, ours := strings.CutPrefix(key, envPrefix); ok && ours {
			if name, known := t.envSetting(rest); known {
				values[name] = value
			}
		}
	}
	for _, o := range src.Overrides {
		if name, value, ok := strings.Cut(o, "="); ok {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values, nil
}
