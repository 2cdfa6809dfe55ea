package millrace;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Does what the tests of test/clients ask of the Java client: one command a line on
 * standard input, fields separated by tabs, answered on standard output by lines of
 * which the last is "ok" or "error" with a reason.
 *
 * <pre>
 * produce ADDR TOPIC CODEC N      N lines of messages follow
 * consume ADDR TOPIC N            answered with N lines of messages
 * count   ADDR TOPIC N            sends the numbers below N, idempotently; "acked K" now and then
 * send    ADDR TOPIC CODEC N      N lines of "PARTITION VALUE" follow
 * </pre>
 *
 * A message is its time, key and value, then key and value of each header; all but
 * the time in base64, with "-" for null.
 *
 * <p>With the arguments "member ADDR GROUP TOPIC NAME=VALUE..." it is a member of a
 * group, with these settings; see {@link Member}.
 */
public final class Client {
    private static final int PARTITION = 0;
    private static final Duration PATIENCE = Duration.ofSeconds(100);

    private final BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII), 1 << 20);
    private final PrintStream out = new PrintStream(System.out, false);

    public static void main(String[] args) throws Exception {
        if (args.length > 0 && args[0].equals("member")) {
            Member.run(args);
            return;
        }
        new Client().serve();
    }

    private void serve() throws Exception {
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] f = line.split("\t", -1);
            try {
                switch (f[0]) {
                    case "produce":
                        produce(f[1], f[2], f[3], read(Integer.parseInt(f[4])));
                        break;
                    case "consume":
                        consume(f[1], f[2], Integer.parseInt(f[3]));
                        break;
                    case "count":
                        count(f[1], f[2], Integer.parseInt(f[3]));
                        break;
                    case "send":
                        send(f[1], f[2], f[3], read(Integer.parseInt(f[4])));
                        break;
                    default:
                        throw new IllegalArgumentException("unknown command " + f[0]);
                }
                out.print("ok\n");
            } catch (Exception e) {
                e.printStackTrace();
                out.print("error\t" + String.valueOf(e).replace('\n', ' ').replace('\t', ' ') + "\n");
            }
            out.flush();
        }
    }

    private List<String[]> read(int n) throws Exception {
        List<String[]> messages = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            messages.add(in.readLine().split("\t", -1));
        }
        return messages;
    }

    private static Properties settings(String addr) {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        return p;
    }

    /** Uses the producer's own defaults: idempotent with acks=all since 3.0, acks=1 before. */
    private void produce(String addr, String topic, String codec, List<String[]> messages) throws Exception {
        Properties p = settings(addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String[] m : messages) {
                ProducerRecord<byte[], byte[]> r = new ProducerRecord<>(
                    topic, PARTITION, Long.parseLong(m[0]), bytes(m[1]), bytes(m[2]));
                for (int i = 3; i + 1 < m.length; i += 2) {
                    r.headers().add(new String(bytes(m[i]), StandardCharsets.UTF_8), bytes(m[i + 1]));
                }
                acks.add(producer.send(r));
            }
            producer.flush();
        }
        for (int i = 0; i < acks.size(); i++) {
            long offset = acks.get(i).get().offset();
            if (offset != i) {
                throw new IllegalStateException("message " + i + " was acknowledged with offset " + offset);
            }
        }
    }

    /** Sends text to several partitions. */
    private void send(String addr, String topic, String codec, List<String[]> values) throws Exception {
        Properties p = settings(addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String[] v : values) {
                byte[] value = v[1].getBytes(StandardCharsets.US_ASCII);
                acks.add(producer.send(new ProducerRecord<>(topic, Integer.valueOf(v[0]), null, value)));
            }
            producer.flush();
        }
        for (Future<RecordMetadata> ack : acks) {
            ack.get();
        }
    }

    /** Reads all of the partition, which must hold n messages, without a group. */
    private void consume(String addr, String topic, int n) {
        Properties p = settings(addr);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "none");
        p.put("fetch.max.wait.ms", "50");
        TopicPartition tp = new TopicPartition(topic, PARTITION);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(tp));
            consumer.seek(tp, 0);
            long end = consumer.endOffsets(List.of(tp)).get(tp);
            if (end != n) {
                throw new IllegalStateException("the end offset is " + end + ", not " + n);
            }
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            for (int got = 0; got < n; ) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    if (r.offset() != got) {
                        throw new IllegalStateException("message " + got + " has offset " + r.offset());
                    }
                    got++;
                    print(r);
                }
                if (got < n && System.nanoTime() > deadline) {
                    throw new IllegalStateException("only " + got + " messages came");
                }
            }
        }
    }

    private void print(ConsumerRecord<byte[], byte[]> r) {
        StringBuilder s = new StringBuilder();
        s.append(r.timestamp()).append('\t').append(text(r.key())).append('\t').append(text(r.value()));
        for (Header h : r.headers()) {
            s.append('\t').append(text(h.key().getBytes(StandardCharsets.UTF_8))).append('\t').append(text(h.value()));
        }
        out.print(s.append('\n'));
    }

    /** Small batches, five requests in flight: what a broker that ends in between can upset. */
    private void count(String addr, String topic, int n) throws Exception {
        Properties p = settings(addr);
        p.put("enable.idempotence", "true");
        p.put("acks", "all");
        p.put("retries", String.valueOf(Integer.MAX_VALUE));
        p.put("batch.size", "2000");
        p.put("delivery.timeout.ms", "100000");
        p.put("request.timeout.ms", "20000");
        p.put("reconnect.backoff.max.ms", "200");
        AtomicInteger acked = new AtomicInteger();
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < n && failed.get() == null; i++) {
                byte[] value = String.valueOf(i).getBytes(StandardCharsets.US_ASCII);
                producer.send(new ProducerRecord<>(topic, PARTITION, null, value), (m, e) -> {
                    if (e != null) {
                        failed.compareAndSet(null, e);
                        return;
                    }
                    int k = acked.incrementAndGet();
                    if (k % 1000 == 0) {
                        synchronized (out) {
                            out.print("acked\t" + k + "\n");
                            out.flush();
                        }
                    }
                });
            }
            producer.flush();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
        if (acked.get() != n) {
            throw new IllegalStateException("only " + acked.get() + " messages were acknowledged");
        }
    }

    private static byte[] bytes(String field) {
        return field.equals("-") ? null : Base64.getDecoder().decode(field);
    }

    private static String text(byte[] b) {
        return b == null ? "-" : Base64.getEncoder().encodeToString(b);
    }
}
