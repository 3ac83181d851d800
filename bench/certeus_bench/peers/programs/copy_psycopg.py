"""COPYs rows into a table by psycopg 3, a COMMIT each time.

python -m certeus_bench.peers.programs.copy_psycopg DSN SCHEMA TABLE --format text --batch 10000
"""

from importlib import import_module

from certeus_bench.peers import postgres_rows, producing

# In the order of COLUMNS. JSON that is encoded already goes as text: as "json", psycopg would
# encode it again, and the column would hold one JSON string.
TYPES = ("int4", "int8", "timestamptz", "text", "text", "text", "text", "int8", "int8", "text")


def main() -> None:
    """Each COPY is a transaction: it is acknowledged when its COMMIT is."""
    parser = producing.parser(__doc__)
    parser.add_argument("dsn")
    parser.add_argument("schema")
    parser.add_argument("table")
    parser.add_argument("--format", choices=("text", "binary"), default="text")
    options = parser.parse_args()
    connection = import_module("psycopg").connect(options.dsn, autocommit=True)
    columns = ", ".join(postgres_rows.COLUMNS)
    query = (
        f"COPY {options.schema}.{options.table} ({columns}) FROM STDIN (FORMAT {options.format})"
    )

    def prepare(number: int, row: bytes) -> postgres_rows.Row:
        return postgres_rows.make_row(number, row, options.seed, f"bench/{options.seed}")

    def send(batch: list[postgres_rows.Row]) -> None:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            if options.format == "binary":
                copy.set_types(TYPES)
            for row in batch:
                copy.write_row(row)

    producing.produce(options, prepare, send)
    connection.close()


if __name__ == "__main__":
    main()
