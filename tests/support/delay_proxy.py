"""A proxy in front of PostgreSQL's socket that passes every packet on late."""

import asyncio

from support.cutting_proxy import CHUNK_BYTES, CuttingProxy


class DelayProxy(CuttingProxy):
    """Holds each packet, in both directions, for `delay_s`."""

    def __init__(self, server_socket: str, delay_s: float) -> None:
        super().__init__(server_socket, lambda _: None)
        self._delay_s = delay_s

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self._delay_s)
            writer.write(chunk)
            await writer.drain()
