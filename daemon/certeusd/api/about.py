"""What the supervisor knows, passed on: it answers in every state, and has one path for each fact.

The api asks `control.sock` as the daemon's own user, so only what a caller of the api may see is
passed on: state, positions, metrics, service levels.
"""

from pathlib import Path

import aiohttp

from certeusd.api.problems import ProblemError

TIMEOUT_S = 5.0


class Supervisor:
    """A client of the control API, kept open."""

    def __init__(self, control_socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            "http://certeus",
            connector=aiohttp.UnixConnector(str(control_socket)),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        )

    async def ask(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body of a GET.

        Raises:
            ProblemError: 503, there is no answer.
        """
        try:
            async with self._session.get(path) as answer:
                return answer.status, answer.content_type, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProblemError(
                503, "no-supervisor", "no answer from the supervisor", f"{error}; try again"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
