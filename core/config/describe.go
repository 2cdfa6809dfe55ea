package config

import (
	"maps"
	"slices"
	"strings"
)

// Source is where a value comes from; the numbers are those of DescribeConfigs.
type Source int8

// The sources, best first.
const (
	SourceTopic          Source = 1 // given for the topic
	SourceBroker         Source = 2 // altered for this broker
	SourceClusterDefault Source = 3 // altered for all brokers
	SourceStatic         Source = 4 // given at the start
	SourceDefault        Source = 5 // nobody gave one
	SourceGroup          Source = 8 // given for the group
)

// Entry is one setting as DescribeConfigs answers it.
type Entry struct {
	Name      string
	Value     *string // nil when there is none, and for sensitive ones
	Source    Source
	ReadOnly  bool
	Sensitive bool
	Type      Type
	Doc       string
	// Synonyms are all values that were given for the setting under any of its names,
	// the one that counts first, each in its own unit.
	Synonyms []SynonymValue
}

// SynonymValue is one of the values from which a setting's value is chosen.
type SynonymValue struct {
	Name   string
	Value  *string // nil for sensitive ones
	Source Source
}

// DescribeTopic answers DescribeConfigs for a topic. names limits the answer; nil
// asks for everything. Names that no topic has are left out, as in Kafka.
func (s *Snapshot) DescribeTopic(t *Topic, names []string) []Entry {
	return s.describe(s.static.table.TopicSettings(), names, t.overrides, t.base, SourceTopic)
}

// DescribeGroup answers DescribeConfigs for a group, like DescribeTopic.
func (s *Snapshot) DescribeGroup(g *Group, names []string) []Entry {
	return s.describe(s.static.table.GroupSettings(), names, g.overrides, g.base, SourceGroup)
}

// describe shows settings of somebody who has given some, from a source, and inherits
// the others.
func (s *Snapshot) describe(settings []*Setting, names []string, given, base map[string]string, source Source) []Entry {
	var out []Entry
	for _, set := range settings {
		if set.Internal || !asked(names, set.Name) {
			continue
		}
		e := Entry{Name: set.Name, Sensitive: set.Sensitive(), Type: set.Type, Doc: set.Doc, Source: SourceDefault}
		if v, ok := effective(given, base, set.Name); ok && !e.Sensitive {
			e.Value = &v
		}
		if v, ok := given[set.Name]; ok {
			e.Synonyms = append(e.Synonyms, synonymValue(set, set.Name, v, source))
		}
		if len(set.Synonyms) > 0 {
			e.Synonyms = append(e.Synonyms, s.chain(set, set.Synonyms)...)
		} else if set.HasDefault {
			e.Synonyms = append(e.Synonyms, synonymValue(set, set.Name, set.Default, SourceDefault))
		}
		if len(e.Synonyms) > 0 {
			e.Source = e.Synonyms[0].Source
		}
		out = append(out, e)
	}
	return out
}

// DescribeBroker answers DescribeConfigs for this broker. names limits the answer;
// nil asks for everything but the settings that Kafka does not document.
func (s *Snapshot) DescribeBroker(names []string) []Entry {
	all := make(map[string]*Setting)
	for name, set := range s.static.table.broker {
		if set.Status != Obsolete && !set.Internal && !set.DynamicOnly {
			all[name] = set
		}
	}
	for _, values := range []map[string]string{s.perBroker, s.clusterDefault} {
		for name := range values {
			if set, ok := s.static.table.Resolve(name); ok {
				all[name] = set
			}
		}
	}
	for name := range s.static.given {
		if set, ok := s.static.table.Resolve(name); ok && set.Status != Obsolete {
			all[name] = set
		}
	}
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if asked(names, name) {
			out = append(out, s.brokerEntry(name, all[name]))
		}
	}
	return out
}

// DescribeClusterDefault answers DescribeConfigs for the default of all brokers:
// what was altered, and nothing else.
func (s *Snapshot) DescribeClusterDefault(names []string) []Entry {
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(s.clusterDefault)) {
		set, ok := s.static.table.Resolve(name)
		if !ok || !asked(names, name) {
			continue
		}
		e := s.brokerEntry(name, set)
		v := s.clusterDefault[name]
		e.Value, e.Source = nil, SourceClusterDefault
		if !e.Sensitive {
			e.Value = &v
		}
		e.Synonyms = slices.DeleteFunc(e.Synonyms, func(sv SynonymValue) bool { return sv.Source != SourceClusterDefault })
		out = append(out, e)
	}
	return out
}

func asked(names []string, name string) bool { return names == nil || slices.Contains(names, name) }

func (s *Snapshot) brokerEntry(name string, set *Setting) Entry {
	e := Entry{
		Name: name, Type: set.Type, Doc: set.Doc, Source: SourceDefault,
		// What belongs to a plug-in may be a secret.
		Sensitive: set.Sensitive() || set.passedThrough(s.static.table),
		ReadOnly:  set.Update == ReadOnly,
	}
	if e.Sensitive != set.Sensitive() {
		hidden := *set
		hidden.Type = Password
		set = &hidden
	}
	e.Synonyms = s.chain(set, append([]Synonym{{set.Name, 1}}, set.Synonyms...))
	if set.Name != name { // listener.name.X.SETTING stands before SETTING, whatever the source
		e.Synonyms = append(s.chain(set, []Synonym{{name, 1}}), e.Synonyms...)
	}
	for _, sv := range e.Synonyms {
		// A setting without a default shows only what was given under its own name, as
		// in Kafka; what it comes to with synonyms is in the chain.
		if sv.Name == name || set.Name != name || set.HasDefault {
			e.Source = sv.Source
			e.Value = sv.Value
			break
		}
	}
	return e
}

// passedThrough reports whether the setting is nobody's that the table knows.
func (s *Setting) passedThrough(t *Table) bool {
	_, known := t.broker[s.Name]
	return !known
}

// chain lists the values of the names by source, the best first.
func (s *Snapshot) chain(set *Setting, names []Synonym) []SynonymValue {
	var out []SynonymValue
	add := func(source Source, get func(name string) (string, bool)) {
		for _, n := range names {
			if v, ok := get(n.Name); ok {
				out = append(out, synonymValue(set, n.Name, v, source))
			}
		}
	}
	add(SourceBroker, func(n string) (string, bool) { v, ok := s.perBroker[n]; return v, ok })
	add(SourceClusterDefault, func(n string) (string, bool) { v, ok := s.clusterDefault[n]; return v, ok })
	add(SourceStatic, s.static.Given)
	add(SourceDefault, func(n string) (string, bool) {
		d, ok := s.static.table.broker[n]
		if !ok || !d.HasDefault {
			return "", false
		}
		return d.Default, true
	})
	return out
}

func synonymValue(set *Setting, name, value string, source Source) SynonymValue {
	sv := SynonymValue{Name: name, Source: source}
	if !set.Sensitive() {
		value = strings.TrimSpace(value)
		sv.Value = &value
	}
	return sv
}
