package certeus.bench;

import java.nio.ByteBuffer;
import java.util.Base64;
import org.HdrHistogram.Histogram;
import org.agrona.DirectBuffer;

/** What is written, read and timed, the same for every system: bench/native/src/work.rs. */
final class Work {
    private static final long TIME_NS_MAX = 60_000_000_000L;
    private static final int DIGITS = 3;
    private static final int BATCH = 64;
    private static final int READS_BETWEEN_LOOKS = 16;
    private static final int TIMER_READINGS = 100_000;

    /** The writing end of a direction. */
    interface Writer {
        /** Copies one event in; waits while there is no room. */
        void write(DirectBuffer payload, int length);
    }

    /** The reading end. */
    interface Reader {
        /** Reads every byte of what there is, and gives its room back; how many events. */
        int read();

        /** The sum of all that was read. */
        long sum();
    }

    private Work() {
    }

    /** One event at a time there and back: this process times it, the other answers. */
    static String oneWay(
        final Settings settings, final Board board, final Writer writer, final Reader reader) {
        final Payload payload = new Payload(settings.payloadBytes());
        final long timerNs = timerNs();
        final Histogram times = new Histogram(1, TIME_NS_MAX, DIGITS);
        final Span span = new Span(settings, ProcessHandle.current().pid(), board.await(Board.Slot.READY));
        long number = 0;
        Span.Phase phase = Span.Phase.WARMUP;
        while (phase != Span.Phase.OVER) {
            number++;
            final long sentNs = System.nanoTime();
            writer.write(payload.number(number), settings.payloadBytes());
            receive(reader);
            final long backNs = System.nanoTime();
            phase = span.tick(backNs, number);
            if (phase == Span.Phase.MEASURED) {
                times.recordValue(Math.min((backNs - sentNs) / 2, TIME_NS_MAX));
            }
        }
        // One more, which the other end answers before it leaves.
        board.set(Board.Slot.STOP, 1);
        writer.write(payload.number(number + 1), settings.payloadBytes());
        receive(reader);
        board.await(Board.Slot.DONE);
        final String histogram = String.format(
            "\"concurrency\":1,\"timer_ns\":%d,\"histogram\":\"%s\"", timerNs, encode(times));
        return result(
            span, settings, histogram, payload.writtenSum() + board.get(Board.Slot.WRITTEN_SUM),
            reader.sum() + board.get(Board.Slot.READ_SUM));
    }

    /** The other side of oneWay. */
    static void answer(
        final Settings settings, final Board board, final Writer writer, final Reader reader) {
        final Payload payload = new Payload(settings.payloadBytes());
        board.set(Board.Slot.READY, ProcessHandle.current().pid());
        boolean last = false;
        for (long number = 1; !last; number++) {
            receive(reader);
            last = board.get(Board.Slot.STOP) != 0;
            writer.write(payload.number(number), settings.payloadBytes());
        }
        board.set(Board.Slot.WRITTEN_SUM, payload.writtenSum());
        board.set(Board.Slot.READ_SUM, reader.sum());
        board.set(Board.Slot.DONE, 1);
    }

    private static void receive(final Reader reader) {
        int events;
        while ((events = reader.read()) == 0) {
            Thread.onSpinWait();
        }
        if (events != 1) {
            throw new IllegalStateException("one event is under way");
        }
    }

    /** Reads as many events as the other process writes. */
    static String drain(final Settings settings, final Board board, final Reader reader) {
        final Span span = new Span(settings, ProcessHandle.current().pid(), board.await(Board.Slot.READY));
        long events = 0;
        long reads = 0;
        while (board.get(Board.Slot.DONE) == 0 || events < board.get(Board.Slot.WRITTEN)) {
            events += reader.read();
            reads++;
            if (reads % READS_BETWEEN_LOOKS == 0
                && span.tick(System.nanoTime(), events) == Span.Phase.OVER) {
                board.set(Board.Slot.STOP, 1);
            }
        }
        return result(
            span, settings, "\"concurrency\":0", board.get(Board.Slot.WRITTEN_SUM), reader.sum());
    }

    /** Writes as fast as there is room. */
    static void fill(final Settings settings, final Board board, final Writer writer) {
        final Payload payload = new Payload(settings.payloadBytes());
        board.set(Board.Slot.READY, ProcessHandle.current().pid());
        long number = 0;
        while (board.get(Board.Slot.STOP) == 0) {
            for (int count = 0; count < BATCH; count++) {
                number++;
                writer.write(payload.number(number), settings.payloadBytes());
            }
        }
        board.set(Board.Slot.WRITTEN, number);
        board.set(Board.Slot.WRITTEN_SUM, payload.writtenSum());
        board.set(Board.Slot.DONE, 1);
    }

    private static String result(
        final Span span, final Settings settings, final String more, final long writtenSum,
        final long readSum) {
        return String.format(
            "%s,\"bytes_each\":%d,%s,\"written_sum\":%s,\"read_sum\":%s}", span.json(),
            settings.payloadBytes(), more, Long.toUnsignedString(writtenSum),
            Long.toUnsignedString(readSum));
    }

    private static String encode(final Histogram times) {
        final ByteBuffer bytes = ByteBuffer.allocate(times.getNeededByteBufferCapacity());
        final int length = times.encodeIntoCompressedByteBuffer(bytes);
        return Base64.getEncoder().encodeToString(java.util.Arrays.copyOf(bytes.array(), length));
    }

    private static long timerNs() {
        long least = Long.MAX_VALUE;
        long before = System.nanoTime();
        for (int reading = 0; reading < TIMER_READINGS; reading++) {
            final long now = System.nanoTime();
            if (now > before) {
                least = Math.min(least, now - before);
            }
            before = now;
        }
        return least;
    }
}
