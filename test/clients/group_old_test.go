package clients_test

import (
	"os/exec"
	"strconv"
	"testing"
)

// oldGroupClients are those of the first versions of the group protocol, 0.9 to 1.1.
// Before, consumers kept their groups in ZooKeeper.
func oldGroupClients(t *testing.T) []groupClient {
	times := []string{strconv.FormatInt(groupSession.Milliseconds(), 10), strconv.FormatInt(groupHeartbeat.Milliseconds(), 10)}
	var out []groupClient
	for _, version := range []string{"0.9.0.1", "0.10.2.2", "1.1.1"} {
		p := newChild(t, func() (*exec.Cmd, error) { return oldJava("kafka-clients", version, "OldClient") })
		out = append(out, groupClient{
			name: "Java kafka-clients", version: version, needs: []string{"mvn", "javac", "java"}, codecs: oldCodecs(),
			assignor: "range", send: p.sendNumbers,
			member: func(addr, group, topic string) (*exec.Cmd, error) {
				return oldJava("kafka-clients", version, "OldClient", append([]string{addr, group, topic}, times...)...)
			},
		})
	}
	python := oldPython()
	p := newChild(t, func() (*exec.Cmd, error) { return oldPythonCommand(python) })
	return append(out, groupClient{
		name: "kafka-python", version: oldPythonVersion, needs: []string{python}, codecs: oldCodecs(),
		assignor: "range", send: p.sendNumbers,
		member: func(addr, group, topic string) (*exec.Cmd, error) {
			return oldPythonCommand(python, append([]string{"member", addr, group, topic}, times...)...)
		},
	})
}
