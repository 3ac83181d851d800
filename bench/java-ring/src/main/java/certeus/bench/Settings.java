package certeus.bench;

import java.nio.file.Path;

/** What both processes are told, as system properties. */
record Settings(double warmupSeconds, double seconds, int payloadBytes, int ringBytes, Path home) {
    static Settings ofThisProgram() {
        return new Settings(
            Double.parseDouble(required("warmupSeconds")),
            Double.parseDouble(required("seconds")),
            Integer.parseInt(required("payloadBytes")),
            Integer.parseInt(required("ringBytes")),
            Path.of(required("home")));
    }

    private static String required(final String name) {
        final String value = System.getProperty("bench." + name);
        if (value == null) {
            throw new IllegalArgumentException("cannot measure: give -Dbench." + name);
        }
        return value;
    }
}
