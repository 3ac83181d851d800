"""The real supervisor over fake children: `-m support.fake_service DIRECTORY [CONFIG]`.

The directory gets `state/` and `run/`, and holds the children's orders, and how many workers there
are to be in `workers` (`scaled_service.py`); `ready_within_s` is how long one more may take.
"""

import sys
from pathlib import Path

import uvloop

from certeusd import config_sources
from certeusd.channel import Role
from certeusd.exits import ExitError
from certeusd.paths import Paths
from certeusd.supervisor import fleet
from certeusd.supervisor.supervisor import Settings
from support.scaled_service import Ordered, serve

CHILD = Path(__file__).with_name("fake_child.py")


def settings(directory: Path, config: str | None = None) -> Settings:
    def command(role: Role) -> list[str]:
        return [sys.executable, "-P", str(CHILD), str(directory)]

    environ = {} if config else {"CERTEUS_DB_URL": "postgresql://u:geheim@127.0.0.1:1/none"}
    loaded = config_sources.load(config, environ)
    paths = Paths(directory / "state", directory / "run")
    return Settings(loaded, paths, config, command, lambda: Ordered(directory / "workers"))


if __name__ == "__main__":
    patience = Path(sys.argv[1]) / "ready_within_s"
    if patience.exists():
        setattr(fleet, "RESTART_TIMEOUT_S", float(patience.read_text()))  # noqa: B010
    try:
        uvloop.run(serve(settings(Path(sys.argv[1]), *sys.argv[2:3])))
    except ExitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
