package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Sources are where settings come from. Later ones win: defaults, then the file,
// then the environment, then the overrides.
type Sources struct {
	// File is a server.properties file; empty for none.
	File string
	// Environ is what os.Environ answers. Only MILLRACE_ variables are looked at.
	Environ []string
	// Overrides are NAME=VALUE.
	Overrides []string
}

// Load reads the sources. Everything wrong with them is reported at once, in an
// *Error; a file that cannot be read is reported by itself.
func Load(t *Table, src Sources) (*Static, error) {
	var text []byte
	if src.File != "" {
		var err error
		if text, err = os.ReadFile(src.File); err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
	}
	l := &loader{table: t, given: make(map[string]given)}
	l.file(filepath.Base(src.File), text)
	l.environ(src.Environ)
	l.overrides(src.Overrides)
	return l.finish()
}

// FromMap makes settings from names and values: for tests and for brokers that are
// composed in Go. where stands in error messages.
func FromMap(t *Table, where string, values map[string]string) (*Static, error) {
	l := &loader{table: t, given: make(map[string]given)}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		l.add(name, values[name], Origin{Where: where})
	}
	return l.finish()
}

// FromProperties reads the text of a server.properties file. name stands in error
// messages.
func FromProperties(t *Table, name string, text []byte) (*Static, error) {
	l := &loader{table: t, given: make(map[string]given)}
	l.file(name, text)
	return l.finish()
}

type loader struct {
	table    *Table
	given    map[string]given
	problems []Problem
}

func (l *loader) problem(at Origin, name, format string, args ...any) {
	l.problems = append(l.problems, Problem{Origin: at, Name: name, Msg: fmt.Sprintf(format, args...)})
}

func (l *loader) file(name string, text []byte) {
	props, errs := ParseProperties(text)
	for _, err := range errs {
		var syntax *SyntaxError
		if errors.As(err, &syntax) {
			l.problem(Origin{name, syntax.Line}, "", "%s", syntax.Msg)
		}
	}
	for _, p := range props {
		l.add(p.Key, p.Value, Origin{name, p.Line})
	}
	slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Origin.Line, b.Origin.Line) })
}

func (l *loader) overrides(overrides []string) {
	for _, o := range overrides {
		name, value, ok := strings.Cut(o, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			l.problem(Origin{Where: "--override"}, "", "%q: want NAME=VALUE", o)
			continue
		}
		l.add(name, strings.TrimSpace(value), Origin{Where: "--override"})
	}
}

// add checks one value. A later one replaces an earlier one, as in Java.
func (l *loader) add(name, value string, at Origin) {
	if name == "" {
		l.problem(at, "", "a line without a name: want NAME=VALUE")
		return
	}
	s, ok := l.table.Resolve(name)
	if !ok {
		l.problem(at, name, "%s", l.table.unknown(name))
		return
	}
	if s.DynamicOnly {
		l.problem(at, name, "%s is altered while the broker runs (millrace config) and cannot be set here", name)
		return
	}
	if s.Status != Obsolete {
		if err := l.checkGiven(s, value); err != nil {
			l.problem(at, name, "%s", err)
			return
		}
	}
	l.given[name] = given{value, at}
}

// checkGiven checks a value. An empty one of a setting without a default is as good
// as none: it is how people clear what a later source should not inherit.
func (l *loader) checkGiven(s *Setting, value string) error {
	if !s.HasDefault && strings.TrimSpace(value) == "" {
		return nil
	}
	return s.Check(value)
}

func (l *loader) finish() (*Static, error) {
	if len(l.problems) > 0 {
		// What several settings say together cannot be judged while some of them are
		// missing; listeners are text and all here.
		s := &Static{table: l.table, given: l.given}
		resolveListeners(s.Get, s.isGiven, s.complainTo(&l.problems))
		return nil, &Error{Problems: l.problems}
	}
	for name, g := range l.given {
		if s, _ := l.table.Resolve(name); !s.HasDefault && strings.TrimSpace(g.value) == "" {
			delete(l.given, name)
		}
	}
	s := &Static{table: l.table, given: l.given, warnings: l.table.warnings(l.given)}
	s.topicBase = inherited(l.table.topic, s.Get)
	if problems := s.validate(); len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return s, nil
}
