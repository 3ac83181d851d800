"""The client of the control API: the standard library alone, so that `certeus` starts quickly."""

import http.client
import json
import socket
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

from certeusd.exits import Exit, ExitError

ANSWER_TIMEOUT_S = 10.0

Json = dict[str, object]

_EXITS = {
    403: Exit.NOT_ALLOWED, 422: Exit.CONFIGURATION, 503: Exit.TRY_AGAIN, 504: Exit.TRY_AGAIN,
    500: Exit.BUG,
}  # fmt: skip


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


def _reason(error: OSError | http.client.HTTPException) -> str:
    """In words, without the number that Python puts before them."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)


class ControlClient:
    """Asks the daemon behind `control.sock`, one connection a question."""

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def get(self, path: str, wait_s: float = 0.0, **query: str) -> Json:
        """Ask; `wait_s` is how long the daemon may take beyond the usual.

        Raises:
            ExitError: 69 no answer, 75 a timeout there, 77 not allowed, 1 any other problem.
        """
        return self._ask("GET", path, wait_s, query)

    def post(self, path: str, wait_s: float = 0.0, **query: str) -> Json:
        """Order; `wait_s` and errors as with `get`."""
        return self._ask("POST", path, wait_s, query)

    def get_text(self, path: str, wait_s: float = 0.0, **query: str) -> bytes:
        """Ask as `get` does, and return the JSON as it came: every number keeps its digits."""
        return self._answer("GET", path, wait_s, query)

    def _ask(self, method: str, path: str, wait_s: float, query: dict[str, str]) -> Json:
        return _object(self._answer(method, path, wait_s, query))

    def _answer(self, method: str, path: str, wait_s: float, query: dict[str, str]) -> bytes:
        connection = _UnixConnection(self.path, self._timeout_s + wait_s)
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            body = answer.read()
        except PermissionError as error:
            raise ExitError(
                Exit.NOT_ALLOWED,
                f"cannot open {self.path}: not allowed; become a member of certeus-admin, or root",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ExitError(
                Exit.UNREACHABLE,
                f"cannot reach the daemon at {self.path}: {_reason(error)}; is certeusd running,"
                " and with this --runtime-dir?",
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            document = _object(body)
            raise ExitError(
                _EXITS.get(answer.status, Exit.FAILED),
                str(document.get("detail", document.get("title", answer.reason))),
            )
        return body


def _object(body: bytes) -> Json:
    content: object = json.loads(body)
    assert isinstance(content, dict), "the API answers with objects"
    return cast(Json, content)
