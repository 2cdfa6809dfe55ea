package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/core"
)

// Table is the catalogue of settings. It is read-only and safe for concurrent
// use. Make it once with NewTable.
type Table struct {
	broker map[string]*Setting
	topic  map[string]*Setting
	group  map[string]*Setting
	env    map[string]string // name in the environment, without MILLRACE_ → name
	advice map[string]string // what to do instead of an obsolete setting
	used   map[string]bool   // prefixes; false for those that are ignored
}

// NewTable makes the catalogue from Kafka's settings, Millrace's own and those of
// components ([core.Factory] has them). A component may have a setting that is in
// the table already, if the types agree; the table's default and documentation
// count. One that a topic may have is a setting of topics as well.
func NewTable(components ...core.SettingDef) (*Table, error) {
	t := &Table{
		broker: make(map[string]*Setting, 400), topic: make(map[string]*Setting, 64), group: make(map[string]*Setting, 2),
		env: make(map[string]string, 400), advice: make(map[string]string), used: make(map[string]bool),
	}
	t.addBroker()
	t.addTopic()
	t.addGroup()
	for _, def := range components {
		if err := t.addComponent(def); err != nil {
			return nil, err
		}
	}
	for name := range t.broker {
		key := envName(name)
		if other, clash := t.env[key]; clash {
			return nil, fmt.Errorf("settings %s and %s have the same name in the environment, %s: %w",
				other, name, envPrefix+key, core.ErrInvalidConfig)
		}
		t.env[key] = name
	}
	return t, nil
}

func (t *Table) addBroker() {
	synonyms := brokerSynonyms()
	for _, group := range [][]row{networkRows(), logRows(), clusterRows(), groupRows(), millraceRows(), dynamicRows()} {
		for _, r := range group {
			s := r.setting()
			s.Synonyms = synonyms[r.name]
			t.broker[r.name] = &s
		}
	}
	for _, r := range millraceRows() {
		t.broker[r.name].Millrace = true
	}
	for _, r := range dynamicRows() {
		t.broker[r.name].DynamicOnly = true
	}
	for line := range lines(brokerIgnored) {
		s := parseIgnored(line)
		t.broker[s.Name] = s
	}
	for line := range lines(obsolete) {
		name, advice, _ := strings.Cut(line, " ")
		t.broker[name] = &Setting{Name: name, Type: String, Importance: Low, Status: Obsolete}
		t.advice[name] = advice
	}
	for line := range lines(passthrough) {
		prefix, use, _ := strings.Cut(line, " ")
		t.used[prefix] = use == "used"
	}
}

func (t *Table) addGroup() {
	for _, r := range groupConfigRows() {
		s := r.setting()
		t.addOwned(t.group, &s, r.from)
	}
}

// addOwned adds a setting of topics or of groups, whose default is that of a broker
// setting, unless it is empty or "-".
func (t *Table) addOwned(table map[string]*Setting, s *Setting, from string) {
	if from != "" && from != "-" {
		s.Synonyms = append([]Synonym{{from, 1}}, t.broker[from].Synonyms...)
	}
	table[s.Name] = s
}

func (t *Table) addTopic() {
	add := func(s *Setting, from string) { t.addOwned(t.topic, s, from) }
	for _, r := range topicRows() {
		s := r.setting()
		add(&s, r.from)
	}
	for _, r := range topicMillraceRows() {
		s := r.setting()
		s.Millrace = true
		add(&s, r.from)
	}
	for line := range lines(topicIgnored) {
		cut := strings.LastIndexByte(line, ' ')
		add(parseIgnored(line[:cut]), line[cut+1:])
	}
}

func (t *Table) addComponent(def core.SettingDef) error {
	typ, ok := typeByName(def.Type)
	if !ok {
		return fmt.Errorf("setting %s of a component has the unknown type %q: %w", def.Name, def.Type, core.ErrInvalidConfig)
	}
	if def.Topic && t.topic[def.Name] == nil {
		t.topic[def.Name] = &Setting{
			Name: def.Name, Type: typ, Default: def.Default, HasDefault: true, Importance: Medium, Update: ClusterWide,
			Doc: def.Doc, Millrace: true, Component: true, Synonyms: []Synonym{{def.Name, 1}},
		}
	}
	if have, ok := t.broker[def.Name]; ok {
		if have.Status != Used {
			used := *have
			used.Status, used.Doc = Used, cmp.Or(used.Doc, def.Doc)
			t.broker[def.Name], have = &used, &used
		}
		if !compatible(have.Type, typ) {
			return fmt.Errorf("setting %s is a %s here and a %s elsewhere: %w", def.Name, typ, have.Type, core.ErrInvalidConfig)
		}
		return nil
	}
	t.broker[def.Name] = &Setting{
		Name: def.Name, Type: typ, Default: def.Default, HasDefault: true,
		Importance: Medium, Doc: def.Doc, Millrace: true, Component: true,
	}
	return nil
}

// compatible reports whether a component that reads the setting as got can take
// every value that the table's type allows, or will refuse it by itself.
func compatible(table, got Type) bool {
	group := func(t Type) Type {
		switch t {
		case Int, Short, Long:
			return Long
		case Password, Class, List:
			return String
		default:
			return t
		}
	}
	return group(table) == group(got)
}

// Broker finds a broker setting by its exact name.
func (t *Table) Broker(name string) (*Setting, bool) { s, ok := t.broker[name]; return s, ok }

// Topic finds a topic setting by its exact name.
func (t *Table) Topic(name string) (*Setting, bool) { s, ok := t.topic[name]; return s, ok }

// BrokerSettings lists the broker settings by name.
func (t *Table) BrokerSettings() []*Setting { return sorted(t.broker) }

// TopicSettings lists the topic settings by name.
func (t *Table) TopicSettings() []*Setting { return sorted(t.topic) }

// GroupSettings lists the settings of groups by name.
func (t *Table) GroupSettings() []*Setting { return sorted(t.group) }

func sorted(m map[string]*Setting) []*Setting {
	return slices.SortedFunc(maps.Values(m), func(a, b *Setting) int { return cmp.Compare(a.Name, b.Name) })
}

const listenerPrefix = "listener.name."

// Resolve finds the setting that a name in a file stands for: the name itself, or
// the last part of listener.name.LISTENER.SETTING and
// listener.name.LISTENER.MECHANISM.SETTING (KIP-103). For a name under a prefix
// that is passed through, such as plugin.NAME.path, it makes one up; so it does for
// other names of a listener, which may belong to a plug-in of Kafka.
func (t *Table) Resolve(name string) (*Setting, bool) {
	if s, ok := t.broker[name]; ok {
		return s, true
	}
	if rest, ok := strings.CutPrefix(name, listenerPrefix); ok {
		listener, setting, found := strings.Cut(rest, ".")
		if !found || listener == "" || setting == "" {
			return nil, false
		}
		for found {
			if s, ok := t.broker[setting]; ok {
				return s, true
			}
			_, setting, found = strings.Cut(setting, ".")
		}
		return &Setting{Name: name, Type: String, Importance: Low, Status: Ignored}, true
	}
	for prefix, used := range t.used {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			s := &Setting{Name: name, Type: String, Importance: Low}
			if !used {
				s.Status = Ignored
			}
			return s, true
		}
	}
	return nil, false
}

// lines are the non-empty lines of a table in text.
func lines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" && !yield(line) {
				return
			}
		}
	}
}

// parseIgnored reads a line of brokerIgnored. The tables are constants, and a test
// reads them all: there is no error to answer.
func parseIgnored(line string) *Setting {
	f := strings.Fields(line)
	s := &Setting{Name: f[0], Default: f[2], HasDefault: true, Status: Ignored, Internal: len(f) > 6}
	s.Type, _ = typeByName(f[1])
	switch f[2] {
	case "<null>":
		s.Default, s.HasDefault = "", false
	case "<empty>":
		s.Default = ""
	}
	s.Importance = map[string]Importance{"LOW": Low, "MEDIUM": Medium, "HIGH": High}[f[3]]
	s.Update = map[string]Update{"ReadOnly": ReadOnly, "PerBroker": PerBroker, "ClusterWide": ClusterWide}[f[4]]
	s.Valid = parseRule(f[5])
	return s
}

// parseRule reads Kafka's notation: [1,...], [1,...,9], [a|b], ~[A|B] (any case).
func parseRule(text string) Rule {
	body, isRule := strings.CutSuffix(text, "]")
	if !isRule {
		return Rule{}
	}
	if folded, ok := strings.CutPrefix(body, "~["); ok {
		return oneOfAnyCase(strings.Split(folded, "|")...)
	}
	body = strings.TrimPrefix(body, "[")
	low, high, isRange := strings.Cut(body, ",...")
	if !isRange {
		return oneOf(strings.Split(body, "|")...)
	}
	minimum, _ := strconv.ParseFloat(low, 64)
	if high == "" {
		return atLeast(minimum)
	}
	maximum, _ := strconv.ParseFloat(strings.TrimPrefix(high, ","), 64)
	return between(minimum, maximum)
}
