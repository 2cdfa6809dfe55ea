package millrace;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group, as test/clients wants it: it prints what it reads and what it has committed. */
final class OldMember {
    private OldMember() {
    }

    static void run(String addr, String group, String topic, int session, int heartbeat) throws Exception {
        AtomicBoolean ended = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (java.io.IOException e) {
                e.printStackTrace();
            }
            ended.set(true);
        });
        input.setDaemon(true);
        input.start();
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("group.id", group);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("fetch.max.wait.ms", "50");
        p.put("session.timeout.ms", String.valueOf(session));
        p.put("heartbeat.interval.ms", String.valueOf(heartbeat));
        String paused = System.getenv("MEMBER_PAUSE");
        long pauseSetting = paused == null ? 0 : Long.parseLong(paused);
        PrintStream out = new PrintStream(System.out, false);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(Collections.singletonList(topic));
            while (!ended.get()) {
                long pause = pauseSetting;
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(100)) {
                    out.print("record\t" + r.partition() + "\t" + r.offset() + "\t" + new String(r.value(), StandardCharsets.UTF_8) + "\n");
                    out.flush();
                    Thread.sleep(pause);
                    pause = 0; // once for what one poll brings
                    try {
                        consumer.commitSync(Collections.singletonMap(
                            new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1)));
                    } catch (CommitFailedException e) {
                        e.printStackTrace();
                        out.print("failed\n");
                        out.flush();
                        continue;
                    }
                    out.print("committed\t" + r.partition() + "\t" + (r.offset() + 1) + "\n");
                    out.flush();
                }
            }
        }
    }
}
