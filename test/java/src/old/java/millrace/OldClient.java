package millrace;

import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * kafka-clients 0.9 to 1.1. Timestamps came with 0.10 and headers with 0.11: both are
 * found by reflection where the client has them.
 */
public final class OldClient extends Commands {
    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            OldMember.run(args[0], args[1], args[2], Integer.parseInt(args[3]), Integer.parseInt(args[4]));
            return;
        }
        new OldClient().serve();
    }

    private static Method find(Class<?> c, String name, Class<?>... parameters) {
        try {
            return c.getMethod(name, parameters);
        } catch (NoSuchMethodException e) {
            return null;
        }
    }

    @SuppressWarnings("unchecked")
    private static ProducerRecord<byte[], byte[]> record(String topic, String[] m) throws Exception {
        ProducerRecord<byte[], byte[]> r;
        if (find(ProducerRecord.class, "timestamp") == null) {
            r = new ProducerRecord<>(topic, PARTITION, bytes(m[1]), bytes(m[2]));
        } else {
            r = ProducerRecord.class
                .getConstructor(String.class, Integer.class, Long.class, Object.class, Object.class)
                .newInstance(topic, PARTITION, Long.parseLong(m[0]), bytes(m[1]), bytes(m[2]));
        }
        for (int i = 3; i + 1 < m.length; i += 2) {
            Object headers = ProducerRecord.class.getMethod("headers").invoke(r);
            Method add = Class.forName("org.apache.kafka.common.header.Headers").getMethod("add", String.class, byte[].class);
            add.invoke(headers, new String(bytes(m[i]), StandardCharsets.UTF_8), bytes(m[i + 1]));
        }
        return r;
    }

    @Override
    void produce(String addr, String topic, String codec, List<String[]> messages) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String[] m : messages) {
                acks.add(producer.send(record(topic, m)));
            }
        }
        for (int i = 0; i < acks.size(); i++) {
            long offset = acks.get(i).get().offset();
            if (offset != i) {
                throw new IllegalStateException("message " + i + " was acknowledged with offset " + offset);
            }
        }
    }

    @Override
    void send(String addr, String topic, String codec, List<String[]> values) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        p.put("acks", "all");
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String[] v : values) {
                acks.add(producer.send(new ProducerRecord<byte[], byte[]>(
                    topic, Integer.parseInt(v[0]), null, v[1].getBytes(StandardCharsets.UTF_8))));
            }
        }
        for (Future<RecordMetadata> ack : acks) {
            ack.get();
        }
    }

    @Override
    void consume(String addr, String topic, int n) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", addr);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "none");
        p.put("fetch.max.wait.ms", "50");
        TopicPartition tp = new TopicPartition(topic, PARTITION);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(Collections.singletonList(tp));
            consumer.seek(tp, 0);
            long deadline = System.nanoTime() + PATIENCE;
            for (int got = 0; got < n; ) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(1000)) {
                    if (r.offset() != got) {
                        throw new IllegalStateException("message " + got + " has offset " + r.offset());
                    }
                    got++;
                    show(r);
                }
                if (got < n && System.nanoTime() > deadline) {
                    throw new IllegalStateException("only " + got + " messages came");
                }
            }
        }
    }

    private void show(ConsumerRecord<byte[], byte[]> r) throws Exception {
        long time = -1;
        Method timestamp = find(ConsumerRecord.class, "timestamp");
        if (timestamp != null) {
            time = (Long) timestamp.invoke(r);
        }
        List<byte[]> headers = new ArrayList<>();
        Method all = find(ConsumerRecord.class, "headers");
        if (all != null) {
            Class<?> header = Class.forName("org.apache.kafka.common.header.Header");
            for (Object h : (Iterable<?>) all.invoke(r)) {
                headers.add(((String) header.getMethod("key").invoke(h)).getBytes(StandardCharsets.UTF_8));
                headers.add((byte[]) header.getMethod("value").invoke(h));
            }
        }
        print(time, r.key(), r.value(), headers);
    }
}
