"""Who may ask what on the control socket, with the whole daemon: each as a user of its own."""

import os
import pwd
import socket

import pytest

from support.as_user import as_user
from support.daemon import Daemon, running

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="other users: needs root"),
]

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
# Users and a group that every Debian has.
CONTROL = '[control]\nreaders = ["@games"]\noperators = ["news"]\nadmins = ["mail"]\n'
PATHS = {
    "GET /v1/status": "reader",
    "GET /metrics": "reader",
    "POST /v1/retry": "operator",
    "POST /v1/followers-forget?name=x": "admin",
    "GET /v1/dead-letters": "admin",
    "POST /v1/dead-letters-retry?first_seq=1&last_seq=2": "admin",
    "POST /v1/dead-letters-drop?first_seq=1&last_seq=2": "admin",
    "GET /v1/dsn?show_password=true": "owner",
}
CLOSED = "PermissionError"
RANKS = ("nobody", "reader", "operator", "admin", "owner")


def ask(daemon: Daemon, user: str, path: str) -> str:
    """The status of the answer, or why there is none."""
    method, target = path.split()
    who = pwd.getpwnam(user)

    def dial() -> str:
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(daemon.runtime_dir / "control.sock"))
            end.sendall(f"{method} {target} HTTP/1.0\r\nHost: certeus\r\n\r\n".encode())
            return end.recv(4096).split()[1].decode()

    return as_user(who.pw_uid, who.pw_gid, dial)


def test_a_role_asks_what_it_may_and_nothing_more() -> None:
    with running(AWAY + CONTROL) as daemon:
        for user, role in (("games", "reader"), ("news", "operator"), ("mail", "admin")):
            for path, needed in PATHS.items():
                answer = ask(daemon, user, path)
                may = RANKS.index(role) >= RANKS.index(needed)
                assert (answer == "403") is not may, (user, path, answer)
        assert {ask(daemon, "lp", path) for path in PATHS} == {CLOSED}
        # A reload is enough.
        daemon.config_path.write_text(AWAY + '[control]\nreaders = ["lp"]\n')
        daemon.certeus("reload")
        assert ask(daemon, "lp", "GET /v1/status") == "200"
        assert ask(daemon, "games", "GET /v1/status") == CLOSED
        assert daemon.stop() == 0
        lines = daemon.log_path.read_text()
        assert "control_ordered" in lines
        assert "not-allowed" in lines


def test_a_name_that_is_nobodys_is_told_before_anything_is_made() -> None:
    with running(AWAY) as daemon:
        daemon.config_path.write_text(AWAY + '[control]\noperators = ["@nosuchgroup"]\n')
        told = daemon.certeus("reload", code=78).stderr
        assert b"control.operators" in told
        assert b"@name" in told
        assert daemon.stop() == 0
