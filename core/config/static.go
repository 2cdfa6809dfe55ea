package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
)

// Origin says where a value was given.
type Origin struct {
	// Where is "server.properties", "environment variable MILLRACE_X" or "--override".
	Where string
	Line  int // 0 where there are no lines
}

// String is the form that editors understand: server.properties:12.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.Where
	}
	return fmt.Sprintf("%s:%d", o.Where, o.Line)
}

// Problem is one thing wrong with the settings.
type Problem struct {
	Origin Origin
	Name   string // of the setting; empty for a line that cannot be read
	Msg    string
}

// String is the problem on one line.
func (p Problem) String() string {
	if p.Origin == (Origin{}) {
		return p.Msg
	}
	return p.Origin.String() + ": " + p.Msg
}

// Error lists everything that is wrong with the settings. It wraps
// core.ErrInvalidConfig.
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n")
}

// Unwrap is core.ErrInvalidConfig.
func (e *Error) Unwrap() error { return core.ErrInvalidConfig }

type given struct {
	value  string
	origin Origin
}

// Static has the values that were given when the broker started. It is immutable.
type Static struct {
	table     *Table
	given     map[string]given
	warnings  []string
	topicBase map[string]string
}

// Table is the catalogue that the values were read against.
func (s *Static) Table() *Table { return s.table }

// Warnings are for the log: settings that are accepted and do nothing. Sorted.
func (s *Static) Warnings() []string { return slices.Clone(s.warnings) }

// Given is the value of a name as it was given, under that very name.
func (s *Static) Given(name string) (string, bool) {
	g, ok := s.given[name]
	return g.value, ok
}

// Names lists what was given, sorted.
func (s *Static) Names() []string { return slices.Sorted(maps.Keys(s.given)) }

// Origin says where a name was given.
func (s *Static) Origin(name string) (Origin, bool) {
	g, ok := s.given[name]
	return g.origin, ok
}

// Get is the value that counts: the given one, else that of a synonym in the
// setting's own unit, else the default. ok is false when there is none.
func (s *Static) Get(name string) (value string, ok bool) {
	value, _, ok = s.lookup(name)
	return value, ok
}

// lookup is Get and whether the value was given.
func (s *Static) lookup(name string) (value string, given, ok bool) {
	if g, ok := s.given[name]; ok {
		return g.value, true, true
	}
	set, known := s.table.broker[name]
	if !known {
		return "", false, false
	}
	for _, syn := range set.Synonyms {
		if g, ok := s.given[syn.Name]; ok {
			return scaled(strings.TrimSpace(g.value), syn.Factor), true, true
		}
	}
	if set.HasDefault {
		return set.Default, false, true
	}
	for _, syn := range set.Synonyms {
		if d := s.table.broker[syn.Name]; d != nil && d.HasDefault {
			return scaled(d.Default, syn.Factor), false, true
		}
	}
	return "", false, false
}

// Settings is for core.Env: it answers what was given, and for a name of the table
// its default. A setting that only a component has answers ok = false when it was
// not given, and the component's own default counts.
func (s *Static) Settings(name string) (string, bool) {
	value, given, ok := s.lookup(name)
	if set, known := s.table.broker[name]; ok && !given && known && set.Component {
		return "", false
	}
	return value, ok
}

// ForListener is Get with the value for one listener first:
// listener.name.NAME.SETTING, the name in lower case (KIP-103).
func (s *Static) ForListener(listener, name string) (string, bool) {
	if g, ok := s.given[listenerPrefix+strings.ToLower(listener)+"."+name]; ok {
		return g.value, true
	}
	return s.Get(name)
}

// ForListenerName is Get for a name that may be listener.name.NAME.SETTING: SETTING
// counts where it was not given.
func (s *Static) ForListenerName(name string) (string, bool) {
	if g, ok := s.given[name]; ok {
		return g.value, true
	}
	if set, ok := s.table.Resolve(name); ok {
		return s.Get(set.Name)
	}
	return "", false
}

// Prefixed has what was given under a prefix, by the rest of its name:
// Prefixed("plugin.mine.") answers {"path": ...}.
func (s *Static) Prefixed(prefix string) map[string]string {
	out := make(map[string]string)
	for name, g := range s.given {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			out[rest] = g.value
		}
	}
	return out
}
