"""The certeus daemon: `daemon/README.md` draws it, `certeusd.__main__` starts it."""

__version__ = "0.1.0"
