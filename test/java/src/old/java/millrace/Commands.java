package millrace;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/**
 * Talks with the tests of test/clients as Client of src/main does, for clients that are
 * too old for it: the commands produce, consume and send, and the same form of messages.
 */
abstract class Commands {
    static final int PARTITION = 0;
    /** How long consumers wait for all messages, in ns. */
    static final long PATIENCE = 1_000_000_000L
        * Long.parseLong(System.getenv().getOrDefault("PATIENCE", "100"));

    private final BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII), 1 << 20);
    private final PrintStream out = new PrintStream(System.out, false);

    /** Sends values to the partitions before them, and returns when they are acknowledged. */
    abstract void send(String addr, String topic, String codec, List<String[]> values) throws Exception;

    abstract void produce(String addr, String topic, String codec, List<String[]> messages) throws Exception;

    /** Reads all of the partition, which must hold n messages, without a group. */
    abstract void consume(String addr, String topic, int n) throws Exception;

    final void serve() throws Exception {
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] f = line.split("\t", -1);
            try {
                switch (f[0]) {
                    case "produce":
                        produce(f[1], f[2], f[3], read(Integer.parseInt(f[4])));
                        break;
                    case "send":
                        send(f[1], f[2], f[3], read(Integer.parseInt(f[4])));
                        break;
                    case "consume":
                        consume(f[1], f[2], Integer.parseInt(f[3]));
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

    /** Answers with a message; headers are name and value by turns. */
    final void print(long time, byte[] key, byte[] value, List<byte[]> headers) {
        StringBuilder s = new StringBuilder();
        s.append(time).append('\t').append(text(key)).append('\t').append(text(value));
        for (byte[] b : headers) {
            s.append('\t').append(text(b));
        }
        out.print(s.append('\n'));
    }

    static byte[] bytes(String field) {
        return field.equals("-") ? null : Base64.getDecoder().decode(field);
    }

    private static String text(byte[] b) {
        return b == null ? "-" : Base64.getEncoder().encodeToString(b);
    }
}
