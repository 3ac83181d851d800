package certeus.bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.zip.CRC32;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.BytesStore;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;

/**
 * Appends to one Chronicle Queue, so many excerpts to each {@code sync()}; or reads it all.
 *
 * <p>Arguments: DIRECTORY, then those of certeus_bench.peers.producing, by which it is spoken to.
 * The rows are in DIRECTORY/rows-SEED, one behind the other.
 */
public final class ChronicleLog {
    private final Path directory;
    private final Map<String, String> options = new HashMap<>();
    private final BufferedReader input = new BufferedReader(new InputStreamReader(System.in));

    private ChronicleLog(String[] arguments) {
        directory = Path.of(arguments[0]);
        for (int index = 1; index < arguments.length; index++) {
            boolean flag = arguments[index].equals("--read");
            options.put(arguments[index], flag ? "" : arguments[++index]);
        }
    }

    public static void main(String[] arguments) throws IOException {
        ChronicleLog log = new ChronicleLog(arguments);
        Path files = log.directory.resolve("queue");
        SingleChronicleQueueBuilder builder =
            SingleChronicleQueueBuilder.binary(files).syncMode(SyncMode.SYNC);
        try (ChronicleQueue queue = builder.build()) {
            if (log.options.containsKey("--read")) {
                read(queue);
            } else {
                log.produce(queue);
            }
        }
    }

    private void produce(ChronicleQueue queue) throws IOException {
        byte[][] rows = rows();
        BytesStore<?, ?>[] excerpts =
            Arrays.stream(rows).map(BytesStore::wrap).toArray(BytesStore<?, ?>[]::new);
        int batch = Integer.parseInt(options.get("--batch"));
        try (ExcerptAppender appender = queue.createAppender()) {
            Tally tally = begin();
            int next = 0;
            while (tally.goesOn()) {
                long beginNs = System.nanoTime();
                for (int count = 0; count < batch; count++) {
                    appender.writeBytes(excerpts[next]);
                    next = next + 1 == excerpts.length ? 0 : next + 1;
                }
                appender.sync();
                if (batch == 1) {
                    tally.addTimed(beginNs);
                } else {
                    tally.add(batch, beginNs);
                }
            }
            keepStill();
            System.out.print(tally.report(writtenSum(rows, tally.acknowledged())));
        }
    }

    /** Says that the work is done, and waits until it is for all who share the processors. */
    private void keepStill() throws IOException {
        System.out.println("done");
        input.readLine();
    }

    private Tally begin() throws IOException {
        System.out.println("ready");
        long beginNs = Long.parseLong(input.readLine());
        while (System.nanoTime() < beginNs) {
            Thread.onSpinWait();
        }
        return new Tally(
            beginNs,
            Double.parseDouble(options.get("--warmup-seconds")),
            Double.parseDouble(options.get("--seconds")));
    }

    private byte[][] rows() throws IOException {
        byte[] all = Files.readAllBytes(directory.resolve("rows-" + options.get("--seed")));
        int size = Integer.parseInt(options.get("--bytes"));
        byte[][] rows = new byte[all.length / size][];
        Arrays.setAll(rows, row -> Arrays.copyOfRange(all, row * size, (row + 1) * size));
        return rows;
    }

    private static long checksum(byte[] payload) {
        CRC32 crc = new CRC32();
        crc.update(payload);
        return crc.getValue();
    }

    /** The checksum of the first {@code count} rows of a cycle. */
    private static long writtenSum(byte[][] rows, long count) {
        long sum = 0;
        for (int row = 0; row < rows.length; row++) {
            long times = count / rows.length + (row < count % rows.length ? 1 : 0);
            sum += times * checksum(rows[row]);
        }
        return sum;
    }

    private static void read(ChronicleQueue queue) {
        long count = 0;
        long sum = 0;
        Bytes<byte[]> payload = Bytes.allocateElasticOnHeap();
        try (ExcerptTailer tailer = queue.createTailer()) {
            while (tailer.readBytes(payload)) {
                sum += checksum(payload.toByteArray());
                count++;
                payload.clear();
            }
        }
        System.out.printf(
            "{\"count\": %d, \"read_sum\": %s}%n", count, Long.toUnsignedString(sum));
    }
}
