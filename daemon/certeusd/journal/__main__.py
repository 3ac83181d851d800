"""`python -m certeusd.journal --channel FD`: the door's process, started by the supervisor only."""

import sys

from certeusd.door_process import run
from certeusd.journal.follower import serve

if __name__ == "__main__":
    sys.exit(run("journal", serve))
