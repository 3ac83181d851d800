"""Write docs/status-page.png: the status page of a daemon at work, as Chromium shows it.

The daemon is that of `screenshot.py`; the browser is Debian's, and reaches the api's socket through
a forwarded port. A picture that is larger than a README should load is an error.
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from forward import forwarded
from png import smaller
from screenshot import ROOT, busy_daemon

PICTURE = ROOT / "docs" / "status-page.png"
WIDTH, HEIGHT = 1280, 900
WATCHED_S = 60.0
"""How much of the chart there is."""
BYTES_MAX = 150_000
BROWSER = "chromium"
PRODUCERS = (
    ("checkout", "8", "0.01", "no"),
    ("sensors/hall-3", "4", "0.02", "yes"),
    ("iot/gateway", "6", "0.01", "no"),
    ("import/nightly", "50", "0.01", "no"),
    ("audit", "1", "0.1", "no"),
)


def picture(url: str, width: int, height: int) -> bytes:
    """Return what is seen of a page."""
    with tempfile.TemporaryDirectory(prefix="certeus-browser-") as scratch:
        file = Path(scratch) / "page.png"
        subprocess.run(
            [BROWSER, "--headless=new", "--no-sandbox", "--hide-scrollbars",
             f"--user-data-dir={scratch}/profile", f"--window-size={width},{height}",
             f"--screenshot={file}", url],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        return file.read_bytes()


def watch(url: str, seconds: float) -> None:
    """Follow what flows for a while: the api remembers it for whoever comes next."""
    end = time.monotonic() + seconds
    with urllib.request.urlopen(f"{url}/v1/ledger/live", timeout=10) as stream:
        while time.monotonic() < end and stream.readline():
            pass


def main() -> None:
    """Start everything, look, end everything."""
    with busy_daemon(PRODUCERS) as run, forwarded(run / "api.sock") as url:
        watch(url, WATCHED_S)
        seen = smaller(picture(f"{url}/", WIDTH, HEIGHT))
    if len(seen) > BYTES_MAX:
        raise SystemExit(f"the picture has {len(seen)} bytes, more than {BYTES_MAX}")
    PICTURE.write_bytes(seen)
    sys.stdout.write(f"wrote {PICTURE.relative_to(ROOT)}, {len(seen)} bytes\n")


if __name__ == "__main__":
    main()
