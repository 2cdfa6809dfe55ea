package consumer

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
)

func failUnknown(member, group string) error {
	return core.Failf(kerr.UnknownMemberID.Code, "Member %s is not a member of group %s.", member, group)
}

func failUnknownInstance(instance string) error {
	return core.Failf(kerr.UnknownMemberID.Code, "Instance id %s is unknown.", instance)
}

func failFull(most int) error {
	return core.Failf(kerr.GroupMaxSizeReached.Code, "The consumer group has reached its maximum capacity of %d members.", most)
}

func failEpoch(how string, received, known int32) error {
	return core.Failf(kerr.FencedMemberEpoch.Code, "The consumer group member has a %s member epoch (%d) than the one known by the group coordinator (%d). "+
		"The member must abandon all its partitions and rejoin.", how, received, known)
}

func failFenced(member, instance, owner string) error {
	return core.Failf(kerr.FencedInstanceID.Code, "Static member %s with instance id %s was fenced by member %s.", member, instance, owner)
}

func failUnreleased(member, instance, owner string) error {
	return core.Failf(kerr.UnreleasedInstanceID.Code, "Static member %s with instance id %s cannot join the group because the instance id is owned by member %s.", member, instance, owner)
}

func invalid(message string) error {
	return &core.KafkaError{Code: kerr.InvalidRequest.Code, Message: message}
}
