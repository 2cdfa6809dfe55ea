import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.Utils;

/** Prints what Kafka's Java client makes of keys; see README.md. */
public class Vectors {
    public static void main(String[] args) {
        Set<String> keys = new LinkedHashSet<>();
        Random random = new Random(1);
        for (int n = 0; n <= 32; n++) {
            byte[] ascending = new byte[n], zeros = new byte[n], ones = new byte[n];
            for (int i = 0; i < n; i++) ascending[i] = (byte) ('a' + i % 26);
            Arrays.fill(ones, (byte) 0xff);
            keys.add(hex(ascending));
            keys.add(hex(zeros));
            keys.add(hex(ones));
            for (int i = 0; i < 4; i++) {
                byte[] some = new byte[n];
                random.nextBytes(some);
                keys.add(hex(some));
            }
        }
        for (String s : List.of("kafka", "user-1", "user-2", "Grüße", "naïve café", "ключ", "鍵", "キー", "مفتاح",
                "🔑", "👩‍👩‍👧", "e\u0301", "\u00e9", "\u0000", "\n", " ", "a b", "{\"id\":1}", "550e8400-e29b-41d4-a716-446655440000"))
            keys.add(hex(s.getBytes(StandardCharsets.UTF_8)));
        for (int i = 0; i < 50; i++) keys.add(hex(Integer.toString(i * 37).getBytes(StandardCharsets.US_ASCII)));
        for (int n : new int[] {33, 63, 64, 65, 255, 256, 1000}) {
            byte[] some = new byte[n];
            random.nextBytes(some);
            keys.add(hex(some));
        }
        int[] counts = {1, 2, 3, 4, 7, 12, 50, 1000, Integer.MAX_VALUE};
        System.out.println("# kafka-clients " + AppInfoParser.getVersion() + ": key (hex), Utils.murmur2, then BuiltInPartitioner.partitionForKey among the columns' number of partitions");
        StringBuilder head = new StringBuilder("key\tmurmur2");
        for (int n : counts) head.append('\t').append(n);
        System.out.println(head);
        for (String key : keys) {
            byte[] b = HexFormat.of().parseHex(key);
            StringBuilder line = new StringBuilder(key).append('\t').append(Utils.murmur2(b));
            for (int n : counts) line.append('\t').append(BuiltInPartitioner.partitionForKey(b, n));
            System.out.println(line);
        }
    }

    static String hex(byte[] b) {
        return HexFormat.of().formatHex(b);
    }
}
