package millrace;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;
import org.apache.log4j.Level;
import org.apache.log4j.Logger;

/**
 * Runs Kafka's own command line tools, many in one virtual machine: the class and its
 * arguments on a line of standard input, separated by tabs. What the tool prints is
 * followed by a line of "exit", a tab and its code.
 */
public final class Tools {
    private Tools() {}

    private static final class Ended extends RuntimeException {
        final int code;

        Ended(int code) {
            this.code = code;
        }
    }

    public static void main(String[] unused) throws Exception {
        Logger.getRootLogger().setLevel(Level.WARN); // what the tools print is wanted, not their settings
        Exit.setExitProcedure((code, message) -> {
            throw new Ended(code);
        });
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] f = line.split("\t", -1);
            int code = 0;
            try {
                Class.forName(f[0]).getMethod("main", String[].class)
                    .invoke(null, (Object) Arrays.copyOfRange(f, 1, f.length));
            } catch (java.lang.reflect.InvocationTargetException e) {
                code = 1;
                if (e.getCause() instanceof Ended) {
                    code = ((Ended) e.getCause()).code;
                } else {
                    e.getCause().printStackTrace(System.out);
                }
            }
            System.out.println("\nexit\t" + code); // not every tool ends its last line
            System.out.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
