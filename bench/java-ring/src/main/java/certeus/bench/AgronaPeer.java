package certeus.bench;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.agrona.DirectBuffer;
import org.agrona.MutableDirectBuffer;
import org.agrona.concurrent.MessageHandler;
import org.agrona.concurrent.UnsafeBuffer;
import org.agrona.concurrent.ringbuffer.OneToOneRingBuffer;
import org.agrona.concurrent.ringbuffer.RingBufferDescriptor;

/** Agrona's one-to-one ring buffer, over a file that both processes map. */
final class AgronaPeer implements Peer {
    private static final int TYPE = 1;

    private final Settings settings;

    AgronaPeer(final Settings settings) {
        this.settings = settings;
    }

    @Override
    public Work.Writer writer(final String direction) throws IOException {
        final OneToOneRingBuffer ring = ring(direction);
        return (payload, length) -> {
            while (!ring.write(TYPE, payload, 0, length)) {
                Thread.onSpinWait();
            }
        };
    }

    @Override
    public Work.Reader reader(final String direction) throws IOException {
        return new Reader(ring(direction));
    }

    @Override
    public void close() {
    }

    /** Whoever is first makes the file; an empty ring is all zeros. */
    private OneToOneRingBuffer ring(final String direction) throws IOException {
        final Path file = settings.home().resolve(direction);
        final int bytes = settings.ringBytes() + RingBufferDescriptor.TRAILER_LENGTH;
        try (FileChannel channel = FileChannel.open(
            file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            return new OneToOneRingBuffer(
                new UnsafeBuffer(channel.map(FileChannel.MapMode.READ_WRITE, 0, bytes)));
        }
    }

    private static final class Reader implements Work.Reader, MessageHandler {
        private final OneToOneRingBuffer ring;
        private long sum;

        Reader(final OneToOneRingBuffer ring) {
            this.ring = ring;
        }

        @Override
        public int read() {
            return ring.read(this);
        }

        @Override
        public long sum() {
            return sum;
        }

        @Override
        public void onMessage(
            final int type, final MutableDirectBuffer buffer, final int index, final int length) {
            sum += Payload.sum((DirectBuffer) buffer, index, length);
        }
    }
}
