"""What `daemon/src` gives to Python; built by Cargo, no policy in it."""

BOARD: dict[str, tuple[int, dict[str, int]]]
"""`{table: (first page, {field: word index})}` of `daemon/src/board.rs`, names in lower case."""

BOARD_PAGES: int
"""Pages of 4096 bytes of the board."""
