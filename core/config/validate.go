package config

import (
	"fmt"
	"strconv"
	"strings"
)

// validate checks what no single setting shows: Kafka's rules about several of
// them.
func (s *Static) validate() []Problem {
	var problems []Problem
	complain := s.complainTo(&problems)
	resolveListeners(s.Get, s.isGiven, complain)
	s.validateIdentity(complain)
	s.validateNumbers(complain)
	if _, err := ParseHostCounts(s.text("max.connections.per.ip.overrides")); err != nil {
		complain("max.connections.per.ip.overrides", err)
	}
	if s.number("max.connections.per.ip") == 0 && s.text("max.connections.per.ip.overrides") == "" {
		complain("max.connections.per.ip", errText("0 lets nobody in unless max.connections.per.ip.overrides names some addresses"))
	}
	if len(SplitList(s.text("log.dirs"))) == 0 {
		complain("log.dirs", errText("at least one directory is needed"))
	}
	if s.text("coordination") == "zookeeper" && s.text("zookeeper.connect") == "" {
		complain("zookeeper.connect", errText("coordination=zookeeper needs it: HOST:PORT,... of the ZooKeeper servers"))
	}
	return problems
}

// complainTo collects problems with the place where the setting was given.
func (s *Static) complainTo(problems *[]Problem) func(name string, err error) {
	return func(name string, err error) {
		at, _ := s.Origin(name)
		*problems = append(*problems, Problem{Origin: at, Name: name, Msg: fmt.Sprintf("%s: %s", name, err)})
	}
}

func (s *Static) isGiven(name string) bool { _, ok := s.given[name]; return ok }

func (s *Static) text(name string) string { v, _ := s.Get(name); return strings.TrimSpace(v) }

// number is the value of a numeric setting; -1 where there is none.
func (s *Static) number(name string) int64 {
	n, err := strconv.ParseInt(s.text(name), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (s *Static) validateIdentity(complain func(string, error)) {
	if a, ok := s.Given("broker.id"); ok {
		if b, ok := s.Given("node.id"); ok && strings.TrimSpace(a) != strings.TrimSpace(b) {
			complain("node.id", fmt.Errorf("broker.id is %s and node.id is %s; give one of them", a, b))
		}
	}
	id, generate, reserved := s.number("broker.id"), strings.EqualFold(s.text("broker.id.generation.enable"), "true"), s.number("reserved.broker.max.id")
	switch {
	case id == -1 && !generate:
		complain("broker.id", errText("-1 asks for a generated id, and broker.id.generation.enable is false: give a number from 0"))
	case generate && id > reserved:
		complain("broker.id", fmt.Errorf("%d is above reserved.broker.max.id (%d), where generated ids begin: choose a lower one or raise that", id, reserved))
	}
}

func (s *Static) validateNumbers(complain func(string, error)) {
	for _, name := range []string{"log.roll.ms", "log.retention.ms", "log.retention.minutes", "log.retention.hours", "log.flush.interval.ms", "log.roll.jitter.ms"} {
		v, ok := s.Get(name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		retention := strings.HasPrefix(name, "log.retention")
		switch {
		case err != nil:
		case retention && (n == 0 || n < -1):
			complain(name, errText("must be -1 (no bound) or at least 1"))
		case name == "log.roll.ms" && n < 1:
			complain(name, errText("must be at least 1"))
		case n < 0 && !retention:
			complain(name, errText("must not be negative"))
		}
	}
	if wait, socket := s.number("replica.fetch.wait.max.ms"), s.number("replica.socket.timeout.ms"); wait > socket {
		complain("replica.fetch.wait.max.ms", fmt.Errorf("%d is above replica.socket.timeout.ms (%d): every fetch that waits would fail", wait, socket))
	}
	if wait, lag := s.number("replica.fetch.wait.max.ms"), s.number("replica.lag.time.max.ms"); wait > lag {
		complain("replica.fetch.wait.max.ms", fmt.Errorf("%d is above replica.lag.time.max.ms (%d): replicas would leave the ISR while they wait", wait, lag))
	}
	if queued, largest := s.number("queued.max.request.bytes"), s.number("socket.request.max.bytes"); queued > 0 && queued < largest {
		complain("queued.max.request.bytes", fmt.Errorf("%d is below socket.request.max.bytes (%d): the largest request could never be read", queued, largest))
	}
	if low, high := s.number("log.cleaner.min.compaction.lag.ms"), s.number("log.cleaner.max.compaction.lag.ms"); low > high {
		complain("log.cleaner.min.compaction.lag.ms", fmt.Errorf("%d is above log.cleaner.max.compaction.lag.ms (%d)", low, high))
	}
	if low, high := s.number("group.min.session.timeout.ms"), s.number("group.max.session.timeout.ms"); low > high {
		complain("group.min.session.timeout.ms", fmt.Errorf("%d is above group.max.session.timeout.ms (%d)", low, high))
	}
	if acks, replicas := s.number("offsets.commit.required.acks"), s.number("offsets.topic.replication.factor"); acks < -1 || acks > replicas {
		complain("offsets.commit.required.acks", fmt.Errorf("must be from -1 to offsets.topic.replication.factor (%d)", replicas))
	}
}
