package certeus.bench;

import io.aeron.Aeron;
import io.aeron.CommonContext;
import io.aeron.ExclusivePublication;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.logbuffer.BufferClaim;
import io.aeron.logbuffer.FragmentHandler;
import io.aeron.logbuffer.Header;
import org.agrona.DirectBuffer;
import org.agrona.concurrent.SleepingMillisIdleStrategy;

/**
 * Aeron over shared memory: exclusive publications, claimed in place, and spinning subscriptions.
 *
 * <p>The media driver carries no event; it only moves the publishers' limits. It runs as one thread
 * of the process that leads, and wakes each millisecond: spinning, it would take a CPU from one of
 * the two processes.
 */
final class AeronPeer implements Peer {
    private static final int DRIVER_IDLE_MS = 1;
    private static final int FRAGMENTS = 256;

    private final MediaDriver driver;
    private final Aeron aeron;

    AeronPeer(final Settings settings, final boolean leads) {
        final String directory = settings.home().resolve("aeron").toString();
        driver = leads ? MediaDriver.launch(new MediaDriver.Context()
            .aeronDirectoryName(directory)
            .threadingMode(ThreadingMode.SHARED)
            .sharedIdleStrategy(new SleepingMillisIdleStrategy(DRIVER_IDLE_MS))
            .warnIfDirectoryExists(false)
            .dirDeleteOnStart(true)
            .dirDeleteOnShutdown(true)) : null;
        aeron = Aeron.connect(new Aeron.Context().aeronDirectoryName(directory));
    }

    @Override
    public Work.Writer writer(final String direction) {
        final ExclusivePublication publication =
            aeron.addExclusivePublication(CommonContext.IPC_CHANNEL, stream(direction));
        while (!publication.isConnected()) {
            Thread.yield();
        }
        final BufferClaim claim = new BufferClaim();
        return (payload, length) -> {
            long position;
            while ((position = publication.tryClaim(length, claim)) < 0) {
                if (position == Publication.CLOSED || position == Publication.MAX_POSITION_EXCEEDED) {
                    throw new IllegalStateException("the publication has ended: " + position);
                }
                Thread.onSpinWait();
            }
            claim.buffer().putBytes(claim.offset(), payload, 0, length);
            claim.commit();
        };
    }

    @Override
    public Work.Reader reader(final String direction) {
        return new Reader(aeron.addSubscription(CommonContext.IPC_CHANNEL, stream(direction)));
    }

    @Override
    public void close() {
        aeron.close();
        if (driver != null) {
            driver.close();
        }
    }

    private static int stream(final String direction) {
        return direction.hashCode();
    }

    private static final class Reader implements Work.Reader, FragmentHandler {
        private final Subscription subscription;
        private long sum;

        Reader(final Subscription subscription) {
            this.subscription = subscription;
        }

        @Override
        public int read() {
            return subscription.poll(this, FRAGMENTS);
        }

        @Override
        public long sum() {
            return sum;
        }

        @Override
        public void onFragment(
            final DirectBuffer buffer, final int offset, final int length, final Header header) {
            sum += Payload.sum(buffer, offset, length);
        }
    }
}
