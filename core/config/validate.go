package config

import (
	"fmt"
	"strconv"
	"strings"
)

// checker holds Kafka's rules about several settings at once. It looks at values
// through get, so that it serves static and altered ones alike.
type checker struct {
	get      func(name string) (string, bool)
	given    func(name string) bool
	complain func(name string, err error)
}

// validate checks what no single setting shows.
func (s *Static) validate() []Problem {
	var problems []Problem
	c := checker{get: s.Get, given: s.isGiven, complain: s.complainTo(&problems)}
	c.all()
	return problems
}

func (c checker) all() {
	resolveListeners(c.get, c.given, c.complain)
	c.identity()
	c.numbers()
	if _, err := ParseHostCounts(c.text("max.connections.per.ip.overrides")); err != nil {
		c.complain("max.connections.per.ip.overrides", err)
	}
	// core.ListenerConfig has no way to say "nobody": a bound of 0 there is none at
	// all, and a broker that is open by mistake is worse than one that does not start.
	for _, name := range []string{"max.connections", "max.connections.per.ip"} {
		if c.number(name) == 0 {
			c.complain(name, textError("0, which lets nobody in, is not supported: give at least 1, or leave the setting out for no bound"))
		}
	}
	if len(SplitList(c.text("log.dirs"))) == 0 {
		c.complain("log.dirs", textError("at least one directory is needed"))
	}
	if c.text("coordination") == "zookeeper" && c.text("zookeeper.connect") == "" {
		c.complain("zookeeper.connect", textError("coordination=zookeeper needs it: HOST:PORT,... of the ZooKeeper servers"))
	}
}

// complainTo collects problems with the place where the setting was given.
func (s *Static) complainTo(problems *[]Problem) func(name string, err error) {
	return func(name string, err error) {
		at, _ := s.Origin(name)
		*problems = append(*problems, Problem{Origin: at, Name: name, Msg: fmt.Sprintf("%s: %s", name, err)})
	}
}

func (s *Static) isGiven(name string) bool { _, ok := s.given[name]; return ok }

func (c checker) text(name string) string { v, _ := c.get(name); return strings.TrimSpace(v) }

// number is the value of a numeric setting; -1 where there is none.
func (c checker) number(name string) int64 {
	n, err := strconv.ParseInt(c.text(name), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (c checker) identity() {
	if c.given("broker.id") && c.given("node.id") {
		if a, b := c.text("broker.id"), c.text("node.id"); a != b {
			c.complain("node.id", fmt.Errorf("broker.id is %s and node.id is %s; give one of them", a, b))
		}
	}
	id, generate, reserved := c.number("broker.id"), strings.EqualFold(c.text("broker.id.generation.enable"), "true"), c.number("reserved.broker.max.id")
	switch {
	case id == -1 && !generate:
		c.complain("broker.id", textError("-1 asks for a generated id, and broker.id.generation.enable is false: give a number from 0"))
	case generate && id > reserved:
		c.complain("broker.id", fmt.Errorf("%d is above reserved.broker.max.id (%d), where generated ids begin: choose a lower one or raise that", id, reserved))
	}
}

func (c checker) numbers() {
	for _, name := range []string{"log.roll.ms", "log.retention.ms", "log.retention.minutes", "log.retention.hours", "log.flush.interval.ms", "log.roll.jitter.ms"} {
		v, ok := c.get(name)
		if !ok || !c.given(name) { // a synonym is judged under its own name
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		retention := strings.HasPrefix(name, "log.retention")
		switch {
		case err != nil:
		case retention && (n == 0 || n < -1):
			c.complain(name, textError("must be -1 (no bound) or at least 1"))
		case name == "log.roll.ms" && n < 1:
			c.complain(name, textError("must be at least 1"))
		case n < 0 && !retention:
			c.complain(name, textError("must not be negative"))
		}
	}
	if wait, socket := c.number("replica.fetch.wait.max.ms"), c.number("replica.socket.timeout.ms"); wait > socket {
		c.complain("replica.fetch.wait.max.ms", fmt.Errorf("%d is above replica.socket.timeout.ms (%d): every fetch that waits would fail", wait, socket))
	}
	if wait, lag := c.number("replica.fetch.wait.max.ms"), c.number("replica.lag.time.max.ms"); wait > lag {
		c.complain("replica.fetch.wait.max.ms", fmt.Errorf("%d is above replica.lag.time.max.ms (%d): replicas would leave the ISR while they wait", wait, lag))
	}
	if queued, largest := c.number("queued.max.request.bytes"), c.number("socket.request.max.bytes"); queued > 0 && queued < largest {
		c.complain("queued.max.request.bytes", fmt.Errorf("%d is below socket.request.max.bytes (%d): the largest request could never be read", queued, largest))
	}
	if low, high := c.number("log.cleaner.min.compaction.lag.ms"), c.number("log.cleaner.max.compaction.lag.ms"); low > high {
		c.complain("log.cleaner.min.compaction.lag.ms", fmt.Errorf("%d is above log.cleaner.max.compaction.lag.ms (%d)", low, high))
	}
	if low, high := c.number("group.min.session.timeout.ms"), c.number("group.max.session.timeout.ms"); low > high {
		c.complain("group.min.session.timeout.ms", fmt.Errorf("%d is above group.max.session.timeout.ms (%d)", low, high))
	}
	for _, of := range []string{"session.timeout.ms", "heartbeat.interval.ms"} {
		name := "group.consumer." + of
		low, high := c.number("group.consumer.min."+of), c.number("group.consumer.max."+of)
		if v := c.number(name); v < low || v > high {
			c.complain(name, fmt.Errorf("%d is not between group.consumer.min.%s (%d) and group.consumer.max.%s (%d)", v, of, low, of, high))
		}
	}
	if beat, session := c.number("group.consumer.heartbeat.interval.ms"), c.number("group.consumer.session.timeout.ms"); beat >= session {
		c.complain("group.consumer.heartbeat.interval.ms", fmt.Errorf("%d is not below group.consumer.session.timeout.ms (%d): every member would be taken for dead", beat, session))
	}
	if acks, replicas := c.number("offsets.commit.required.acks"), c.number("offsets.topic.replication.factor"); acks < -1 || acks > replicas {
		c.complain("offsets.commit.required.acks", fmt.Errorf("must be from -1 to offsets.topic.replication.factor (%d)", replicas))
	}
}
