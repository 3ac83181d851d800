package certeus.bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.StringJoiner;

/**
 * What the peer has acknowledged to this process, and when: the JVM's side of what
 * certeus_bench/peers/producing.py is for Python. Times are of the monotonic clock.
 */
final class Tally {
    private static final double INTERVAL_SECONDS = 0.5;
    private static final int TIMER_SAMPLES = 2000;

    private final long countedFromNs;
    private final long untilNs;
    private final long[] intervals;
    private long lastNs;
    private long operations;
    private long acknowledged;
    private long cpuBeforeNs = -1;
    private long[] timesNs = new long[1 << 16];
    private int times;

    Tally(long beginNs, double warmupSeconds, double seconds) {
        countedFromNs = beginNs + Math.round(warmupSeconds * 1e9);
        untilNs = countedFromNs + Math.round(seconds * 1e9);
        lastNs = countedFromNs;
        intervals = new long[(int) (seconds / INTERVAL_SECONDS)];
    }

    /** Whether more may be offered. */
    boolean goesOn() {
        return System.nanoTime() < untilNs;
    }

    /** All that were acknowledged, warm-up included. */
    long acknowledged() {
        return acknowledged;
    }

    /**
     * So many more were acknowledged just now, offered at {@code beginNs}. Of a batch that was on
     * its way when the warm-up ended, the part after that is counted.
     */
    void add(long count, long beginNs) {
        long now = System.nanoTime();
        acknowledged += count;
        if (now < countedFromNs) {
            return;
        }
        if (beginNs < countedFromNs) {
            count = (long) (count * ((double) (now - countedFromNs) / (now - beginNs)));
        }
        if (cpuBeforeNs < 0) {
            cpuBeforeNs = cpuNs();
        }
        operations += count;
        lastNs = now;
        int index = (int) ((now - countedFromNs) / 1e9 / INTERVAL_SECONDS);
        if (index < intervals.length) {
            intervals[index] += count;
        }
    }

    /** One more was acknowledged just now, offered at {@code beginNs}. */
    void addTimed(long beginNs) {
        long elapsedNs = System.nanoTime() - beginNs;
        if (beginNs >= countedFromNs) {
            if (times == timesNs.length) {
                timesNs = Arrays.copyOf(timesNs, 2 * times);
            }
            timesNs[times++] = elapsedNs;
        }
        add(1, beginNs);
    }

    /** What the runner is told: the fields of loads.Report. */
    String report(long writtenSum) {
        double cpuSeconds = (cpuNs() - Math.max(0, cpuBeforeNs)) / 1e9;
        StringJoiner fields = new StringJoiner(", ", "{", "}");
        fields.add("\"operations\": " + operations);
        fields.add("\"acknowledged\": " + acknowledged);
        fields.add("\"counted_from_ns\": " + countedFromNs);
        fields.add("\"last_ns\": " + lastNs);
        fields.add("\"intervals\": " + Arrays.toString(intervals));
        fields.add("\"written_sum\": " + Long.toUnsignedString(writtenSum));
        fields.add("\"cpu_seconds\": " + cpuSeconds);
        fields.add("\"times_ns\": " + Arrays.toString(Arrays.copyOf(timesNs, times)));
        fields.add("\"timer_ns\": " + timerNs());
        return fields.toString();
    }

    private static long cpuNs() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
            .getProcessCpuTime();
    }

    private static long timerNs() {
        long least = Long.MAX_VALUE;
        long earlier = System.nanoTime();
        for (int sample = 0; sample < TIMER_SAMPLES; sample++) {
            long later = System.nanoTime();
            if (later > earlier) {
                least = Math.min(least, later - earlier);
            }
            earlier = later;
        }
        return least == Long.MAX_VALUE ? 0 : least;
    }
}
