package clients_test

import (
	"fmt"
	"os/exec"
	"testing"
)

// javaGroupClients use the assignors of their times: 2.8 shares by ranges, 3.9 moves
// partitions one by one (KIP-429) and 4.2 has its own default.
func javaGroupClients(t *testing.T) []groupClient {
	var out []groupClient
	for _, version := range javaVersions() {
		assignor, setting := "range", ""
		if version == "3.9.1" {
			assignor = "cooperative-sticky"
			setting = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
		}
		out = append(out, javaGroup(t, version, assignor, append(javaTimes(), setting)...))
	}
	return out
}

// javaGroup is a group of a version of the Java client, with further settings of the
// consumer.
func javaGroup(t *testing.T, version, assignor string, settings ...string) groupClient {
	return groupClient{
		name: "Java kafka-clients", version: version, needs: []string{"mvn", "javac", "java"}, codecs: allCodecs(),
		assignor: assignor, send: newJava(t, version).sendNumbers,
		member: func(addr, group, topic string) (*exec.Cmd, error) {
			classPath, err := buildJava(version)
			if err != nil {
				return nil, err
			}
			args := []string{"member", addr, group, topic, fmt.Sprint("fetch.max.wait.ms=", maxWait.Milliseconds())}
			for _, s := range settings {
				if s != "" {
					args = append(args, s)
				}
			}
			return javaCommand(classPath, args...), nil
		},
	}
}

// javaTimes make a member of the classic protocol quick.
func javaTimes() []string {
	return []string{
		fmt.Sprint("session.timeout.ms=", groupSession.Milliseconds()),
		fmt.Sprint("heartbeat.interval.ms=", groupHeartbeat.Milliseconds()),
	}
}
