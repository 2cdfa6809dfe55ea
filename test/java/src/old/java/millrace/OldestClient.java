package millrace;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import kafka.api.FetchRequest;
import kafka.api.FetchRequestBuilder;
import kafka.common.ErrorMapping;
import kafka.common.TopicAndPartition;
import kafka.api.PartitionOffsetRequestInfo;
import kafka.javaapi.FetchResponse;
import kafka.javaapi.OffsetRequest;
import kafka.javaapi.OffsetResponse;
import kafka.javaapi.PartitionMetadata;
import kafka.javaapi.TopicMetadata;
import kafka.javaapi.TopicMetadataRequest;
import kafka.javaapi.consumer.SimpleConsumer;
import kafka.message.MessageAndOffset;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Kafka 0.8.2: its producer in Java, and the SimpleConsumer, which finds the leader itself. */
public final class OldestClient extends Commands {
    private static final int TIMEOUT = 30_000; // ms
    private static final int BUFFER = 64 << 10;
    private static final int FETCH = 100_000; // less than the largest message, which comes all the same

    public static void main(String[] args) throws Exception {
        new OldestClient().serve();
    }

    @Override
    void produce(String addr, String topic, String codec, List<String[]> messages) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
        try {
            for (String[] m : messages) {
                acks.add(producer.send(new ProducerRecord<>(topic, PARTITION, bytes(m[1]), bytes(m[2]))));
            }
            for (int i = 0; i < acks.size(); i++) {
                long offset = acks.get(i).get().offset();
                if (offset != i) {
                    throw new IllegalStateException("message " + i + " was acknowledged with offset " + offset);
                }
            }
        } finally {
            producer.close();
        }
    }

    @Override
    void send(String addr, String topic, String codec, List<String[]> values) {
        throw new UnsupportedOperationException("consumers of 0.8 have their groups in ZooKeeper");
    }

    private static SimpleConsumer connect(String host, int port) {
        return new SimpleConsumer(host, port, TIMEOUT, BUFFER, "test");
    }

    private static SimpleConsumer leader(String addr, String topic) {
        int colon = addr.lastIndexOf(':');
        SimpleConsumer seed = connect(addr.substring(0, colon), Integer.parseInt(addr.substring(colon + 1)));
        try {
            for (TopicMetadata t : seed.send(new TopicMetadataRequest(Collections.singletonList(topic))).topicsMetadata()) {
                for (PartitionMetadata p : t.partitionsMetadata()) {
                    if (p.partitionId() == PARTITION && p.leader() != null) {
                        return connect(p.leader().host(), p.leader().port());
                    }
                }
            }
        } finally {
            seed.close();
        }
        throw new IllegalStateException("no leader of " + topic);
    }

    @Override
    void consume(String addr, String topic, int n) throws Exception {
        SimpleConsumer consumer = leader(addr, topic);
        try {
            checkBounds(consumer, topic, n);
            long deadline = System.nanoTime() + PATIENCE;
            for (int got = 0; got < n; ) {
                FetchRequest request = new FetchRequestBuilder().clientId("test").maxWait(50).minBytes(1)
                    .addFetch(topic, PARTITION, got, FETCH).build();
                FetchResponse response = consumer.fetch(request);
                if (response.hasError()) {
                    throw new IllegalStateException("error code " + response.errorCode(topic, PARTITION), ErrorMapping.exceptionFor(response.errorCode(topic, PARTITION)));
                }
                for (MessageAndOffset m : response.messageSet(topic, PARTITION)) {
                    if (m.offset() < got) {
                        continue; // of a compressed set, of which the beginning is known
                    }
                    if (m.offset() != got) {
                        throw new IllegalStateException("message " + got + " has offset " + m.offset());
                    }
                    got++;
                    print(-1, copy(m.message().key()), copy(m.message().payload()), Collections.<byte[]>emptyList());
                }
                if (got < n && System.nanoTime() > deadline) {
                    throw new IllegalStateException("only " + got + " messages came");
                }
            }
        } finally {
            consumer.close();
        }
    }

    private static void checkBounds(SimpleConsumer consumer, String topic, int n) {
        TopicAndPartition tp = new TopicAndPartition(topic, PARTITION);
        long[] want = {n, 0};
        long[] times = {kafka.api.OffsetRequest.LatestTime(), kafka.api.OffsetRequest.EarliestTime()};
        for (int i = 0; i < times.length; i++) {
            OffsetResponse r = consumer.getOffsetsBefore(new OffsetRequest(
                Collections.singletonMap(tp, new PartitionOffsetRequestInfo(times[i], 1)),
                kafka.api.OffsetRequest.CurrentVersion(), "test"));
            long[] offsets = r.offsets(topic, PARTITION);
            if (r.hasError() || offsets.length != 1 || offsets[0] != want[i]) {
                throw new IllegalStateException("offsets before " + times[i] + ": " + java.util.Arrays.toString(offsets)
                    + ", error code " + r.errorCode(topic, PARTITION));
            }
        }
    }

    private static byte[] copy(ByteBuffer b) {
        if (b == null) {
            return null;
        }
        byte[] c = new byte[b.remaining()];
        b.duplicate().get(c);
        return c;
    }
}
