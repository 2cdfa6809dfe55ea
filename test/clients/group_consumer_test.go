package clients_test

import (
	"context"
	"fmt"
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
	out := []groupClient{
		{
			name: "franz-go", version: moduleVersion("github.com/twmb/franz-go"), codecs: allCodecs(),
			send: franzSend, member: goMember("franz-go-consumer"),
		},
		// Not 3.9, whose consumer of this protocol is a preview: a partition that it gets while
		// it asks for the offsets of others begins anew, without a question (compare
		// SubscriptionState.resetInitializingPositions of 3.9.1 and of 4.0).
		javaGroup(t, "4.0.2", "", "group.protocol=consumer"),
		javaGroup(t, "4.4.0", "", "group.protocol=consumer"),
		pythonLibraries()[0].group(t, "", "consumer"), // librdkafka
	}
	for i := range out {
		out[i].consumer, out[i].assignor = true, "uniform, the broker's"
	}
	return out
}

// franzConsumerMember is franzMember with the consumer protocol.
func franzConsumerMember(ctx context.Context, addr, group, topic string, out *memberOut) error {
	return franzGroupMember(ctx, addr, group, topic, out, kgo.ServerSideBalancer())
}
