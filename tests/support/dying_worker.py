"""A real worker 1 that cannot live while a file says so: `dying_worker.py FILE NAME --channel FD`.

`early`: it ends before it says that it is ready; `late`: right after that, with signs of life.
By its name among the arguments it is found as any worker.
"""

import sys
from pathlib import Path

from certeusd.channel import Ready
from certeusd.worker import __main__ as process
from certeusd.worker.service import Service

EXIT = 3


class Dying(Service):
    def run(self) -> int:
        if self._index == 1 and ORDER.exists():
            if ORDER.read_text() == "late":
                self._channel.send(Ready())
                self._kernel.run(0)
            return EXIT
        return super().run()


if __name__ == "__main__":
    ORDER = Path(sys.argv.pop(1))
    del sys.argv[1]
    setattr(process, "Service", Dying)  # noqa: B010 - a class, to the type checkers
    sys.exit(process.main())
