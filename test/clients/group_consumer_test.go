package clients_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumerProtocolSettings make a broker's groups of the consumer protocol quick: in
// that protocol the times are the broker's.
func consumerProtocolSettings() []string {
	session, heartbeat := groupSession.Milliseconds(), groupHeartbeat.Milliseconds()
	return []string{
		fmt.Sprint("group.consumer.min.session.timeout.ms=", session), fmt.Sprint("group.consumer.session.timeout.ms=", session),
		fmt.Sprint("group.consumer.min.heartbeat.interval.ms=", heartbeat), fmt.Sprint("group.consumer.heartbeat.interval.ms=", heartbeat),
	}
}

// consumerProtocolClients are those that know the consumer protocol (KIP-848), in which
// the broker assigns the partitions.
func consumerProtocolClients(t *testing.T) []groupClient {
	const suffix, assignor = ", consumer protocol", "uniform, the broker's"
	out := []groupClient{{
		name: "franz-go" + suffix, version: moduleVersion("github.com/twmb/franz-go"), codecs: allCodecs(),
		assignor: assignor, send: franzSend, member: goMember("franz-go-consumer"),
	}}
	for _, version := range []string{"3.9.1", "4.2.0"} {
		out = append(out, groupClient{
			name: "Java kafka-clients" + suffix, version: version, needs: []string{"mvn", "javac", "java"}, codecs: allCodecs(),
			assignor: assignor, send: newJava(t, version).sendNumbers,
			member: func(addr, group, topic string) (*exec.Cmd, error) {
				classPath, err := buildJava(version)
				if err != nil {
					return nil, err
				}
				return javaCommand(classPath, "member", addr, group, topic,
					fmt.Sprint("fetch.max.wait.ms=", maxWait.Milliseconds()), "group.protocol=consumer"), nil
			},
		})
	}
	for _, p := range pythonGroupClients(t) {
		if p.name != "confluent-kafka" {
			continue
		}
		classic := p.member
		p.name, p.assignor = p.name+suffix, assignor
		p.member = func(addr, group, topic string) (*exec.Cmd, error) {
			cmd, err := classic(addr, group, topic)
			if err == nil {
				cmd.Env = append(os.Environ(), "GROUP_PROTOCOL=consumer")
			}
			return cmd, err
		}
		out = append(out, p)
	}
	return out
}

// franzConsumerMember is franzMember with the consumer protocol.
func franzConsumerMember(ctx context.Context, addr, group, topic string, out *memberOut) error {
	return franzGroupMember(ctx, addr, group, topic, out, kgo.ServerSideBalancer())
}
