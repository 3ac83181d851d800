package certeus.bench;

import java.io.IOException;

/** A system that carries events from one process to another. */
interface Peer extends AutoCloseable {
    /** The writing end of a direction, once it can be written to. */
    Work.Writer writer(String direction) throws IOException;

    /** The reading end. */
    Work.Reader reader(String direction) throws IOException;

    @Override
    void close();
}
