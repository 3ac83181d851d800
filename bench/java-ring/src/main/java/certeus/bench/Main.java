package certeus.bench;

import java.io.IOException;

/** One of two processes: {@code Main aeron|agrona one-way|throughput lead|follow}. */
public final class Main {
    private Main() {
    }

    /** Prints one measurement, if it leads. */
    public static void main(final String[] arguments) throws IOException {
        final Settings settings = Settings.ofThisProgram();
        final boolean oneWay = arguments[1].equals("one-way");
        final boolean leads = arguments[2].equals("lead");
        final Board board = Board.open(settings.home());
        try (Peer peer = arguments[0].equals("aeron")
            ? new AeronPeer(settings, leads) : new AgronaPeer(settings)) {
            if (oneWay && leads) {
                final Work.Reader reader = peer.reader("back");
                System.out.println(Work.oneWay(settings, board, peer.writer("there"), reader));
            } else if (oneWay) {
                final Work.Reader reader = peer.reader("there");
                Work.answer(settings, board, peer.writer("back"), reader);
            } else if (leads) {
                System.out.println(Work.drain(settings, board, peer.reader("there")));
            } else {
                Work.fill(settings, board, peer.writer("there"));
            }
        }
    }
}
