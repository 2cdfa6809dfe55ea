package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/core"
)

// WithChoices returns a table in which the values of some settings, of brokers and
// of topics, are limited to the names of components that there are. A value that
// is not among them is then a mistake of its file and line.
func (t *Table) WithChoices(choices map[string][]string) (*Table, error) {
	next := *t
	next.broker, next.topic = maps.Clone(t.broker), maps.Clone(t.topic)
	for name, values := range choices {
		found := false
		for _, table := range []map[string]*Setting{next.broker, next.topic} {
			s, ok := table[name]
			if !ok {
				continue
			}
			found = true
			limited := *s
			limited.Valid.OneOf = slices.Sorted(slices.Values(values))
			if !s.Valid.NotEmpty { // what may be empty still may
				limited.Valid.OneOf = append([]string{""}, limited.Valid.OneOf...)
			}
			table[name] = &limited
		}
		if !found {
			return nil, fmt.Errorf("setting %s has no choices: there is no such setting: %w", name, core.ErrInvalidConfig)
		}
	}
	return &next, nil
}
