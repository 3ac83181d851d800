package certeus.bench;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.agrona.concurrent.UnsafeBuffer;

/** A few words, 128 bytes apart, by which both processes agree on begin and end. */
final class Board {
    private static final int BYTES = 4096;
    private static final int SLOT_BYTES = 128;

    /** The words. */
    enum Slot {
        /** The other process: its pid, once it is there. */
        READY,
        /** Not zero: the other process is to end. */
        STOP,
        /** Not zero: it has ended, the words below are final. */
        DONE,
        WRITTEN,
        WRITTEN_SUM,
        READ_SUM
    }

    private final UnsafeBuffer words;

    private Board(final Path file, final StandardOpenOption... options) throws IOException {
        try (FileChannel channel = FileChannel.open(file, options)) {
            words = new UnsafeBuffer(channel.map(FileChannel.MapMode.READ_WRITE, 0, BYTES));
        }
    }

    /** Both open the same file; whoever is first makes it, and new pages are zero. */
    static Board open(final Path home) throws IOException {
        return new Board(
            home.resolve("board"),
            StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
    }

    void set(final Slot slot, final long value) {
        words.putLongRelease(slot.ordinal() * SLOT_BYTES, value);
    }

    long get(final Slot slot) {
        return words.getLongAcquire(slot.ordinal() * SLOT_BYTES);
    }

    long await(final Slot slot) {
        long value;
        while ((value = get(slot)) == 0) {
            Thread.yield();
        }
        return value;
    }

    /** Waits for a file that the other process makes. */
    static void await(final Path file) {
        while (!Files.exists(file)) {
            Thread.yield();
        }
    }
}
