package millrace;

import java.io.File;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.server.NIOServerCnxnFactory;
import org.apache.zookeeper.server.ZooKeeperServer;

/**
 * Kafka's own main with a ZooKeeper in the same process, to save a machine for tests a
 * virtual machine. Arguments: the folder and the port of ZooKeeper, Kafka's
 * server.properties, and perhaps a file of nodes to create before Kafka starts: in each
 * line a path, a tab and the data. It ends at SIGTERM, by Kafka's own shutdown hook;
 * ZooKeeper lives until the process ends.
 */
public final class KafkaWithZooKeeper {
    private KafkaWithZooKeeper() {}

    public static void main(String[] args) throws Exception {
        File data = new File(args[0]);
        ZooKeeperServer server = new ZooKeeperServer(data, data, 1000);
        NIOServerCnxnFactory factory = new NIOServerCnxnFactory();
        factory.configure(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])), 100);
        factory.startup(server);
        if (args.length > 3) {
            prepare("127.0.0.1:" + args[1], Path.of(args[3]));
        }
        kafka.Kafka.main(new String[] {args[2]});
    }

    private static void prepare(String address, Path nodes) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        try (ZooKeeper zk = new ZooKeeper(address, 30000, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        })) {
            connected.await();
            for (String line : Files.readAllLines(nodes)) {
                String[] node = line.split("\t", 2);
                byte[] value = node[1].isEmpty() ? null : node[1].getBytes(StandardCharsets.UTF_8);
                zk.create(node[0], value, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            }
        }
    }
}
