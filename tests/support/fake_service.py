"""The real supervisor over fake children: `fake_service.py DIRECTORY [CONFIG]`.

The directory gets `state/` and `run/`, and holds the children's orders.
"""

import sys
from pathlib import Path

import uvloop

from certeusd import config_sources, logs
from certeusd.channel import Role
from certeusd.exits import ExitError
from certeusd.paths import Paths
from certeusd.supervisor.supervisor import Settings, Supervisor

CHILD = Path(__file__).with_name("fake_child.py")


def settings(directory: Path, config: str | None = None) -> Settings:
    def command(role: Role) -> list[str]:
        return [sys.executable, "-P", str(CHILD), str(directory)]

    environ = {} if config else {"CERTEUS_DB_URL": "postgresql://u:geheim@127.0.0.1:1/none"}
    loaded = config_sources.load(config, environ)
    paths = Paths(directory / "state", directory / "run")
    return Settings(loaded, paths, config, command)


async def serve(chosen: Settings) -> None:
    supervisor = Supervisor(chosen, logs.configure("supervisor", level="debug"))
    try:
        supervisor.start()
        await supervisor.run()
    finally:
        supervisor.close()


if __name__ == "__main__":
    try:
        uvloop.run(serve(settings(Path(sys.argv[1]), *sys.argv[2:3])))
    except ExitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
