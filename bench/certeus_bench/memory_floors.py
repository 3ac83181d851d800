"""Below what two processes can do through memory: one cache line's way, and plain copying."""

from certeus_bench.native import built, scenario

MIB = 1 << 20
BLOCKS = ((100, 4 * MIB), (4096, 4 * MIB), (MIB, 512 * MIB))
"""Bytes copied at once, and the area that they are copied within."""

SCENARIOS = [
    scenario(
        "floor/ping-pong",
        "floor",
        "One cache line from one spinning process to another and back; half of the round trip.",
        built("ping-pong"),
    ),
    *(
        scenario(
            "floor/memcpy",
            "floor",
            "One process copies blocks from one area of its memory to another.",
            built("memcpy"),
            payload_bytes=block,
            area_bytes=area,
        )
        for block, area in BLOCKS
    ),
]
