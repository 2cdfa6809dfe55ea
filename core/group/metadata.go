package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/group/schema"
)

// metadataOf is what a classic group stores, in the form of a record. Byte slices are
// shared.
func metadataOf(v *kmsg.GroupMetadataValue) *schema.GroupMetadataValue {
	out := &schema.GroupMetadataValue{
		ProtocolType: v.ProtocolType, Generation: v.Generation, Protocol: v.Protocol, Leader: v.Leader,
		CurrentStateTimestamp: v.CurrentStateTimestamp,
	}
	for _, m := range v.Members {
		out.Members = append(out.Members, schema.GroupMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeout: m.RebalanceTimeoutMillis, SessionTimeout: m.SessionTimeoutMillis,
			Subscription: m.Subscription, Assignment: m.Assignment,
		})
	}
	return out
}

// classicOf is the reverse of metadataOf.
func classicOf(v *schema.GroupMetadataValue) *kmsg.GroupMetadataValue {
	out := &kmsg.GroupMetadataValue{
		ProtocolType: v.ProtocolType, Generation: v.Generation, Protocol: v.Protocol, Leader: v.Leader,
		CurrentStateTimestamp: v.CurrentStateTimestamp,
	}
	for _, m := range v.Members {
		out.Members = append(out.Members, kmsg.GroupMetadataValueMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeoutMillis: m.RebalanceTimeout, SessionTimeoutMillis: m.SessionTimeout,
			Subscription: m.Subscription, Assignment: m.Assignment,
		})
	}
	return out
}
