package millrace;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A member of a group. It prints what it reads and then, once that is committed, what
 * it has committed:
 *
 * <pre>
 * record    PARTITION OFFSET VALUE
 * committed PARTITION NEXT
 * failed
 * </pre>
 *
 * with tabs between the fields. It leaves the group and ends when its standard input
 * ends.
 */
final class Member {
    private Member() {}

    static void run(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[1]);
        p.put("group.id", args[2]);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        for (int i = 4; i < args.length; i++) {
            int at = args[i].indexOf('=');
            p.put(args[i].substring(0, at), args[i].substring(at + 1));
        }
        long pause = Long.parseLong(System.getenv().getOrDefault("MEMBER_PAUSE", "0"));
        PrintStream out = new PrintStream(System.out, false);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[3]), new KeepWhilePrinting());
            AtomicBoolean over = new AtomicBoolean();
            Thread end = new Thread(() -> {
                try {
                    while (System.in.read() >= 0) {
                        // until its end
                    }
                } catch (java.io.IOException e) {
                    // that is its end too
                }
                over.set(true); // a wakeup alone may be lost between two calls
                consumer.wakeup();
            });
            end.setDaemon(true);
            end.start();
            while (!over.get()) {
                Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> r : poll(consumer)) {
                    out.print("record\t" + r.partition() + "\t" + r.offset() + "\t"
                        + new String(r.value(), StandardCharsets.US_ASCII) + "\n");
                    read.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
                out.flush();
                if (!read.isEmpty()) {
                    Thread.sleep(pause);
                    commit(consumer, read, out);
                }
            }
        }
    }

    /**
     * Has partitions revoked inside of poll alone. A consumer of KIP-848 that has no listener
     * gives them up on a thread of its own, at any time, while the program still holds records
     * of theirs: what it commits of them then comes after their next owner has begun.
     */
    private static final class KeepWhilePrinting implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        }
    }

    private static ConsumerRecords<byte[], byte[]> poll(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            return consumer.poll(Duration.ofSeconds(1));
        } catch (WakeupException e) {
            return ConsumerRecords.empty(); // it is over
        }
    }

    private static void commit(
            KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, OffsetAndMetadata> read, PrintStream out) {
        try {
            try {
                consumer.commitSync(read);
            } catch (WakeupException e) {
                consumer.commitSync(read); // told to leave, it commits all the same what it has printed
            }
        } catch (CommitFailedException | RebalanceInProgressException | UnknownMemberIdException e) {
            System.err.println("commit: " + e); // the records come again, here or elsewhere
            out.print("failed\n");
            out.flush();
            return;
        }
        read.forEach((tp, o) -> out.print("committed\t" + tp.partition() + "\t" + o.offset() + "\n"));
        out.flush();
    }
}
