"""`python -m certeusd.api --channel FD`: the api's process, started by the supervisor only."""

import sys

from certeusd.api.server import serve
from certeusd.door_process import run

if __name__ == "__main__":
    sys.exit(run("api", serve))
