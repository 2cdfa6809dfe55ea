package broker

import (
	"log/slog"
	"strconv"

	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/telemetry"
	"github.com/millrace/millrace/core/tree"
)

// newFeed follows the configurations in the tree and puts them into force.
func newFeed(s *settings, log *slog.Logger, r *replicas, m *telemetry.Metrics, level *slog.LevelVar) *controller.ConfigFeed {
	c := &configs{settings: s, log: log, replicas: r, metrics: m, level: level}
	return controller.NewConfigFeed(log.With("part", "configs"), c.apply)
}

// configs puts configurations into force as they come.
type configs struct {
	settings *settings
	log      *slog.Logger
	replicas *replicas
	metrics  *telemetry.Metrics
	level    *slog.LevelVar
}

// apply takes the whole configuration of an entity; the feed calls it from one
// goroutine.
func (c *configs) apply(e tree.Entity, values map[string]string) {
	var err error
	switch e.Type {
	case tree.TopicConfigs:
		_, err = c.settings.SetTopic(e.Name, values)
		if m := c.replicas.running(); m != nil {
			m.Reconfigure(e.Name)
		}
	case tree.GroupConfigs:
		var id string
		if id, err = e.Group(); err == nil {
			err = c.settings.SetGroup(id, values)
		}
	case tree.BrokerConfigs:
		switch e.Name {
		case tree.DefaultEntity:
			err = c.settings.SetClusterDefault(values)
		case strconv.Itoa(int(c.settings.Broker().ID)):
			err = c.settings.SetBroker(values)
		default:
			return // another broker's
		}
		c.brokerChanged()
	default:
		return // clients, users and addresses come with quotas
	}
	if err != nil {
		c.log.Warn("a stored configuration has settings that cannot be used; the others count", "entity", e.String(), "err", err)
	}
}

// brokerChanged puts the broker's own dynamic settings into force. Topics without
// settings of their own follow the broker's, so all are told.
func (c *configs) brokerChanged() {
	b := c.settings.Broker()
	if level, err := telemetry.ParseLevel(b.LogLevel); err == nil {
		c.level.Set(level)
	}
	m := c.replicas.running()
	if m == nil {
		return
	}
	m.SetProducerExpiration(b.Logs.ProducerExpiration)
	last := ""
	for _, p := range m.Partitions() {
		if p.Topic != last {
			last = p.Topic
			m.Reconfigure(last)
		}
	}
}
