"""`python -m certeusd.syslog --channel FD`: syslog's door, started by the supervisor only."""

import sys

from certeusd.door_process import run
from certeusd.syslog.server import serve

if __name__ == "__main__":
    sys.exit(run("syslog", serve))
