package certeus.bench;

import java.nio.ByteOrder;
import org.agrona.DirectBuffer;
import org.agrona.concurrent.UnsafeBuffer;

/** The bytes of one event, and the sum that proves them: bench/native/src/payload.rs. */
final class Payload {
    private final UnsafeBuffer bytes;
    private final long restSum;
    private long writtenSum;

    Payload(final int length) {
        bytes = new UnsafeBuffer(java.nio.ByteBuffer.allocateDirect(length));
        for (int at = Long.BYTES; at < length; at++) {
            bytes.putByte(at, (byte) (at * 31 + 7));
        }
        restSum = sum(bytes, 0, length);
    }

    /** Gives the event its number. */
    DirectBuffer number(final long number) {
        bytes.putLong(0, number, ByteOrder.LITTLE_ENDIAN);
        writtenSum += restSum + number;
        return bytes;
    }

    long writtenSum() {
        return writtenSum;
    }

    /** The sum of all words of 8 bytes, and of what is left as one short word. */
    static long sum(final DirectBuffer buffer, final int offset, final int length) {
        long sum = 0;
        final int end = offset + length;
        int at = offset;
        for (; at <= end - Long.BYTES; at += Long.BYTES) {
            sum += buffer.getLong(at, ByteOrder.LITTLE_ENDIAN);
        }
        for (int shift = 0; at < end; at++, shift += Byte.SIZE) {
            sum += (buffer.getByte(at) & 0xffL) << shift;
        }
        return sum;
    }
}
