import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.coordinator.group.generated.*;

/** Prints records of __consumer_offsets as Kafka's own classes encode them. */
public final class Vectors {
  private static final Uuid ID = new Uuid(0x0102030405060708L, 0x090a0b0c0d0e0f10L);

  public static void main(String[] args) {
    for (short v = 0; v <= 4; v++) {
      OffsetCommitValue value = new OffsetCommitValue()
          .setOffset(1L << 40).setMetadata("m\u00e9ta").setCommitTimestamp(1700000000123L);
      if (v >= 3) value.setLeaderEpoch(7);
      if (v == 1) value.setExpireTimestamp(1700000999999L);
      if (v >= 4) value.setTopicId(ID);
      print("offset-v" + v, v == 0 ? 0 : 1,
          new OffsetCommitKey().setGroup("group").setTopic("topic").setPartition(3), value, v);
    }
    print("offset-gone", 1, new OffsetCommitKey().setGroup("group").setTopic("topic").setPartition(3), null, 0);
    for (short v = 0; v <= 4; v++) {
      GroupMetadataValue.MemberMetadata m = new GroupMetadataValue.MemberMetadata()
          .setMemberId("member").setClientId("client").setClientHost("/127.0.0.1")
          .setSessionTimeout(45000).setSubscription(new byte[] {0, 1}).setAssignment(new byte[] {2, 3, 4});
      if (v >= 1) m.setRebalanceTimeout(300000);
      GroupMetadataValue.MemberMetadata n = m.duplicate().setMemberId("other").setAssignment(new byte[0]);
      if (v >= 3) m.setGroupInstanceId("instance");
      GroupMetadataValue value = new GroupMetadataValue()
          .setProtocolType("consumer").setGeneration(9).setProtocol("range").setLeader("member")
          .setMembers(List.of(m, n));
      if (v >= 2) value.setCurrentStateTimestamp(1700000000123L);
      print("group-v" + v, 2, new GroupMetadataKey().setGroup("group"), value, v);
    }
    print("group-empty", 2, new GroupMetadataKey().setGroup("group"),
        new GroupMetadataValue().setProtocolType("").setGeneration(2).setProtocol(null).setLeader(null), 3);
    print("group-gone", 2, new GroupMetadataKey().setGroup("group"), null, 0);
    ConsumerGroupMetadataKey group = new ConsumerGroupMetadataKey().setGroupId("group");
    print("epoch", 3, group, new ConsumerGroupMetadataValue().setEpoch(11), 0);
    print("epoch-hash", 3, group, new ConsumerGroupMetadataValue().setEpoch(11).setMetadataHash(-5L), 0);
    print("epoch-gone", 3, group, null, 0);
    print("topics", 4, new ConsumerGroupPartitionMetadataKey().setGroupId("group"),
        new ConsumerGroupPartitionMetadataValue().setTopics(List.of(
            new ConsumerGroupPartitionMetadataValue.TopicMetadata().setTopicId(ID).setTopicName("topic")
                .setNumPartitions(2).setPartitionMetadata(List.of(
                    new ConsumerGroupPartitionMetadataValue.PartitionMetadata().setPartition(1).setRacks(List.of("a", "b")))),
            new ConsumerGroupPartitionMetadataValue.TopicMetadata().setTopicId(ID).setTopicName("bare")
                .setNumPartitions(1))), 0);
    ConsumerGroupMemberMetadataKey member = new ConsumerGroupMemberMetadataKey().setGroupId("group").setMemberId("member");
    print("member", 5, member, new ConsumerGroupMemberMetadataValue()
        .setInstanceId("instance").setRackId("rack").setClientId("client").setClientHost("/127.0.0.1")
        .setSubscribedTopicNames(List.of("bar", "foo")).setSubscribedTopicRegex("ba.*")
        .setRebalanceTimeoutMs(300000).setServerAssignor("uniform"), 0);
    print("member-bare", 5, member, new ConsumerGroupMemberMetadataValue()
        .setInstanceId(null).setRackId(null).setClientId("").setClientHost("").setSubscribedTopicRegex(null)
        .setServerAssignor(null), 0);
    print("member-classic", 5, member, new ConsumerGroupMemberMetadataValue()
        .setInstanceId(null).setRackId(null).setClientId("client").setClientHost("/127.0.0.1")
        .setSubscribedTopicNames(List.of("foo")).setSubscribedTopicRegex(null).setRebalanceTimeoutMs(300000)
        .setServerAssignor(null).setClassicMemberMetadata(
            new ConsumerGroupMemberMetadataValue.ClassicMemberMetadata().setSessionTimeoutMs(45000)
                .setSupportedProtocols(List.of(new ConsumerGroupMemberMetadataValue.ClassicProtocol()
                    .setName("range").setMetadata(new byte[] {0, 3, 9})))), 0);
    print("member-gone", 5, member, null, 0);
    print("target-epoch", 6, new ConsumerGroupTargetAssignmentMetadataKey().setGroupId("group"),
        new ConsumerGroupTargetAssignmentMetadataValue().setAssignmentEpoch(12), 0);
    print("target", 7, new ConsumerGroupTargetAssignmentMemberKey().setGroupId("group").setMemberId("member"),
        new ConsumerGroupTargetAssignmentMemberValue().setTopicPartitions(List.of(
            new ConsumerGroupTargetAssignmentMemberValue.TopicPartition().setTopicId(ID).setPartitions(List.of(0, 5)))), 0);
    print("current", 8, new ConsumerGroupCurrentMemberAssignmentKey().setGroupId("group").setMemberId("member"),
        new ConsumerGroupCurrentMemberAssignmentValue().setMemberEpoch(12).setPreviousMemberEpoch(11).setState((byte) 1)
            .setAssignedPartitions(List.of(new ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions()
                .setTopicId(ID).setPartitions(List.of(0))))
            .setPartitionsPendingRevocation(List.of(new ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions()
                .setTopicId(ID).setPartitions(List.of(5, 6)))), 0);
    print("regex", 16, new ConsumerGroupRegularExpressionKey().setGroupId("group").setRegularExpression("ba.*"),
        new ConsumerGroupRegularExpressionValue().setTopics(List.of("bar", "baz")).setVersion(99).setTimestamp(1700000000123L), 0);
  }

  private static void print(String name, int type, ApiMessage key, ApiMessage value, int version) {
    System.out.println(name + " " + hex((short) type, key, (short) 0) + " "
        + (value == null ? "-" : hex((short) version, value, (short) version)));
  }

  private static String hex(short prefix, ApiMessage message, short version) {
    ByteBuffer b = MessageUtil.toVersionPrefixedByteBuffer(version, message);
    b.putShort(0, prefix);
    byte[] bytes = new byte[b.remaining()];
    b.get(bytes);
    return HexFormat.of().formatHex(bytes);
  }
}
