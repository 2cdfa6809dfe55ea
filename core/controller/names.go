package controller

import (
	"math"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
)

// maxNameLength leaves room for the partition's number in the name of a directory.
const maxNameLength = 249

// CheckTopicName answers an INVALID_TOPIC_EXCEPTION that says what is wrong with the
// name, or nil.
func CheckTopicName(name string) error {
	code := kerr.InvalidTopicException.Code
	switch {
	case name == "":
		return core.Failf(code, "Topic name is invalid: the empty string is not allowed")
	case name == "." || name == "..":
		return core.Failf(code, "Topic name is invalid: '.' or '..' is not allowed")
	case len(name) > maxNameLength:
		return core.Failf(code, "Topic name is invalid: the length of '%s' is longer than the max allowed length %d", name, maxNameLength)
	}
	for i := range len(name) {
		if !legal(name[i]) {
			return core.Failf(code, "Topic name is invalid: '%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
		}
	}
	return nil
}

// maxGroupLength is what a group's id has room for in a record, in bytes.
const maxGroupLength = math.MaxInt16

// checkGroupID says which groups cannot have a configuration. Kafka too has no default
// for all groups.
func checkGroupID(id string) error {
	switch {
	case id == "":
		return core.Failf(kerr.InvalidRequest.Code, "Default group resources are not allowed: name the group. The broker's settings group.consumer.* are the default of all.")
	case len(id) > maxGroupLength:
		return core.Failf(kerr.InvalidGroupID.Code, "The id of a group has at most %d bytes.", maxGroupLength)
	}
	return nil
}

func legal(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// metricName is what a topic is called in the names of metrics, where '.' and '_'
// are the same; two topics may not have the same one.
func metricName(topic string) string { return strings.ReplaceAll(topic, ".", "_") }

func collisionError(name, other string) error {
	return core.Failf(kerr.InvalidTopicException.Code, "Topic '%s' collides with existing topic: %s", name, other)
}
