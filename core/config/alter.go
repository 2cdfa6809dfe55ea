package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/core"
)

// Op is what an alteration does to one setting; Kafka's numbers (KIP-339).
type Op int8

// The operations.
const (
	OpSet      Op = 0
	OpDelete   Op = 1
	OpAppend   Op = 2 // adds items to a list
	OpSubtract Op = 3 // removes items from a list
)

// Change alters one setting. Value is nil only with OpDelete.
type Change struct {
	Name  string
	Op    Op
	Value *string
}

func refused(format string, args ...any) error {
	return &core.KafkaError{Code: codeInvalidRequest, Message: fmt.Sprintf(format, args...)}
}

// AlterTopic answers what the settings of a topic become: current is what was given
// for it so far. With replace, as in AlterConfigs, changes are all there is.
// Nothing is changed anywhere. Errors are *core.KafkaError: INVALID_CONFIG for what
// does not fit, INVALID_REQUEST for what is no request.
func (s *Snapshot) AlterTopic(current map[string]string, changes []Change, replace bool) (map[string]string, error) {
	next, err := apply(current, changes, replace, func(name string) (*Setting, string, error) {
		set, ok := s.static.table.topic[name]
		if !ok {
			return nil, "", invalid("Unknown topic config name: %s", name)
		}
		return set, s.topicBase[name], nil
	})
	if err != nil {
		return nil, err
	}
	return next, s.static.table.CheckTopic(next)
}

// AlterBroker answers what the altered settings of this broker become, or, with
// perBroker false, those of all brokers. See AlterTopic.
func (s *Snapshot) AlterBroker(perBroker bool, changes []Change, replace bool) (map[string]string, error) {
	current := s.clusterDefault
	if perBroker {
		current = s.perBroker
	}
	table := s.static.table
	next, err := apply(current, changes, replace, func(name string) (*Setting, string, error) {
		set, ok := table.Resolve(name)
		if !ok || set.Status == Obsolete {
			return nil, "", invalid("Unknown config name: %s", name)
		}
		v, _ := s.static.ForListenerName(name)
		return set, v, nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if err := table.checkBroker(name, next[name], perBroker); err != nil {
			return nil, err
		}
	}
	trial := [2]map[string]string{next, s.clusterDefault}
	if !perBroker {
		trial = [2]map[string]string{s.perBroker, next}
	}
	if _, err := newSnapshot(s.static, trial[0], trial[1]); err != nil {
		var first *core.KafkaError
		if errors.As(err, &first) {
			return nil, first
		}
		return nil, err
	}
	return next, nil
}

// apply does the operations. find answers the setting of a name and the value that
// counts where none was given.
func apply(current map[string]string, changes []Change, replace bool, find func(string) (*Setting, string, error)) (map[string]string, error) {
	if err := wellFormed(changes, replace); err != nil {
		return nil, err
	}
	next := maps.Clone(current)
	if replace || next == nil {
		next = make(map[string]string, len(changes))
	}
	for _, c := range changes {
		switch c.Op {
		case OpSet:
			next[c.Name] = *c.Value
			continue
		case OpDelete:
			delete(next, c.Name)
			continue
		}
		set, inherited, err := find(c.Name)
		if err != nil {
			return nil, err
		}
		if set.Type != List {
			return nil, invalid("Config value %s is not allowed for config key: %s", map[Op]string{OpAppend: "append", OpSubtract: "subtract"}[c.Op], c.Name)
		}
		have, given := next[c.Name]
		if !given {
			have = inherited
		}
		next[c.Name] = alterList(SplitList(have), SplitList(*c.Value), c.Op)
	}
	return next, nil
}

func alterList(have, items []string, op Op) string {
	if op == OpSubtract {
		have = slices.DeleteFunc(have, func(item string) bool { return slices.Contains(items, item) })
		return strings.Join(have, ",")
	}
	for _, item := range items {
		if !slices.Contains(have, item) {
			have = append(have, item)
		}
	}
	return strings.Join(have, ",")
}

func wellFormed(changes []Change, replace bool) error {
	seen := make(map[string]bool, len(changes))
	var empty []string
	for _, c := range changes {
		if seen[c.Name] {
			return refused("Error due to duplicate config keys: %s", c.Name)
		}
		seen[c.Name] = true
		if c.Op < OpSet || c.Op > OpSubtract || replace && c.Op != OpSet {
			return refused("Unknown operation %d for config key: %s", c.Op, c.Name)
		}
		if c.Op != OpDelete && c.Value == nil {
			empty = append(empty, c.Name)
		}
	}
	if len(empty) > 0 {
		return refused("Null value not supported for : %s", strings.Join(empty, ", "))
	}
	return nil
}

// checkBroker checks one altered setting of a broker, or of all of them.
func (t *Table) checkBroker(name, value string, perBroker bool) error {
	set, ok := t.Resolve(name)
	if !ok || set.Status == Obsolete {
		return invalid("Unknown config name: %s", name)
	}
	prefixed := strings.HasPrefix(name, listenerPrefix)
	switch {
	case set.Update == ReadOnly && (!prefixed || !mechanismSetting(set.Name)):
		return invalid("Cannot update these configs dynamically: %s. It is read when the broker starts: set it in server.properties", name)
	case set.Update == PerBroker && !perBroker || prefixed && !perBroker && set.Update != ClusterWide:
		return invalid("Cannot update these configs at default cluster level: %s. Alter it for each broker", name)
	case !prefixed && listenerOnly(set.Name):
		return invalid("These security configs can be dynamically updated only per-listener using the listener prefix: %s. Use listener.name.NAME.%s", name, name)
	}
	if err := set.Check(value); err != nil {
		return invalid("%s", err)
	}
	return nil
}

// listenerOnly settings are altered for one listener at a time (KIP-226).
func listenerOnly(name string) bool {
	switch name {
	case "ssl.keystore.type", "ssl.keystore.location", "ssl.keystore.password", "ssl.key.password",
		"ssl.keystore.key", "ssl.keystore.certificate.chain", "ssl.truststore.type",
		"ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.certificates":
		return true
	}
	return false
}

// mechanismSetting names settings that may be altered only under a listener and its
// mechanism.
func mechanismSetting(name string) bool {
	switch name {
	case "sasl.login.callback.handler.class", "sasl.server.callback.handler.class", "sasl.login.class", "connections.max.reauth.ms":
		return true
	}
	return false
}
