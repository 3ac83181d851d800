"""COPYs rows into a table by asyncpg's own means, a COMMIT each time.

python -m certeus_bench.peers.programs.copy_asyncpg DSN SCHEMA TABLE --batch 10000
"""

import asyncio
from importlib import import_module

from certeus_bench.peers import postgres_rows, producing


def main() -> None:
    """Each COPY is a transaction: it is acknowledged when its COMMIT is."""
    parser = producing.parser(__doc__)
    parser.add_argument("dsn")
    parser.add_argument("schema")
    parser.add_argument("table")
    options = parser.parse_args()
    loop = import_module("uvloop").new_event_loop()
    asyncio.set_event_loop(loop)
    connection = loop.run_until_complete(import_module("asyncpg").connect(options.dsn))

    def prepare(number: int, row: bytes) -> postgres_rows.Row:
        return postgres_rows.make_row(number, row, options.seed, f"bench/{options.seed}")

    def send(batch: list[postgres_rows.Row]) -> None:
        loop.run_until_complete(
            connection.copy_records_to_table(
                options.table,
                schema_name=options.schema,
                columns=postgres_rows.COLUMNS,
                records=batch,
            )
        )

    producing.produce(options, prepare, send)
    loop.run_until_complete(connection.close())


if __name__ == "__main__":
    main()
