package certeus.bench;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** The measured part of a run, counted in short intervals: bench/native/src/span.rs. */
final class Span {
    enum Phase { WARMUP, MEASURED, OVER }

    private static final long INTERVAL_NS = 100_000_000;

    private final long[] pids;
    private final long startNs = System.nanoTime();
    private final long beginNs;
    private final long endNs;
    private final List<Long> intervals = new ArrayList<>();
    private boolean begun;
    private boolean over;
    private long firstNs;
    private long lastNs;
    private long firstCount;
    private long lastCount;
    private double firstCpuSeconds;
    private double lastCpuSeconds;
    private long intervalEndNs;
    private long intervalCount;

    Span(final Settings settings, final long... pids) {
        this.pids = pids;
        beginNs = startNs + (long) (settings.warmupSeconds() * 1e9);
        endNs = beginNs + (long) (settings.seconds() * 1e9);
    }

    Phase tick(final long ns, final long count) {
        if (ns - beginNs < 0) {
            return Phase.WARMUP;
        }
        if (over) {
            return Phase.OVER;
        }
        if (!begun) {
            begun = true;
            firstNs = ns;
            firstCount = count;
            firstCpuSeconds = cpuSeconds();
            intervalEndNs = ns + INTERVAL_NS;
            intervalCount = count;
        }
        while (ns - intervalEndNs >= 0) {
            intervals.add(count - intervalCount);
            intervalEndNs += INTERVAL_NS;
            intervalCount = count;
        }
        if (ns - endNs < 0) {
            return Phase.MEASURED;
        }
        over = true;
        intervals.add(count - intervalCount);
        lastNs = ns;
        lastCount = count;
        lastCpuSeconds = cpuSeconds();
        return Phase.OVER;
    }

    private double cpuSeconds() {
        return Arrays.stream(pids)
            .mapToDouble(pid -> ProcessHandle.of(pid).orElseThrow().info().totalCpuDuration()
                .orElseThrow().toNanos() / 1e9)
            .sum();
    }

    /** The measurement as bench/certeus_bench/results.py has it, without an end. */
    String json() {
        return String.format(
            "{\"operations\":%d,\"seconds\":%.9f,\"warmup_seconds\":%.9f,\"intervals\":[%s],"
                + "\"interval_seconds\":%.1f,\"cpu_seconds\":%.3f",
            lastCount - firstCount, (lastNs - firstNs) / 1e9, (firstNs - startNs) / 1e9,
            intervals.stream().map(String::valueOf).collect(Collectors.joining(",")),
            INTERVAL_NS / 1e9, lastCpuSeconds - firstCpuSeconds);
    }
}
