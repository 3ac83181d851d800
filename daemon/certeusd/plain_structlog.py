"""structlog, without what it loads for tracebacks in colour if that is installed: rich.

The commands have rich for their tables; a process of the daemon never uses it, and is 3 MiB larger
with it. Whoever logs imports structlog from here.
"""

import sys
from types import ModuleType
from typing import cast

_modules = cast(dict[str, ModuleType | None], sys.modules)
_rich = _modules.get("rich")
_modules["rich"] = None  # How Python is told that a package is not there.
try:
    import structlog
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger
finally:
    del _modules["rich"]
    if _rich is not None:
        _modules["rich"] = _rich

__all__ = ["EventDict", "FilteringBoundLogger", "Processor", "WrappedLogger", "structlog"]
