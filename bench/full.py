"""`make bench-full`: the quick figures over sizes and numbers of producers, as one HTML report."""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console

import harness
import quick
import report

SIZES = (64, 150, 1024, 16384)
PRODUCERS = (1, 2, 4, 8)
DEFAULT_BYTES = 150

out = Console(highlight=False, stderr=True)


def measure(home: Path, seconds: float) -> report.Results:
    """One daemon; each size with two producers, each number of producers with 150 B."""
    with harness.started(home) as daemon:
        daemon.dsn()
        out.print("  latency of single events")
        latency = quick.run_latency(daemon, quick.LATENCY_COUNT)
        by_producers: list[quick.Throughput] = []
        for producers in PRODUCERS:
            out.print(f"  {producers} producers, {DEFAULT_BYTES} B, {seconds:.0f} s")
            by_producers.append(quick.run_load(daemon, DEFAULT_BYTES, producers, seconds))
        out.print("  bare COPY")
        copy = quick.run_bare_copy(daemon, quick.COPY_ROWS_MAX)
        by_size: list[quick.Throughput] = []
        for size in SIZES:
            out.print(f"  2 producers, {size} B, {seconds:.0f} s")
            by_size.append(quick.run_load(daemon, size, 2, seconds))
    return report.Results(
        machine=harness.machine(),
        measured_at=time.strftime("%Y-%m-%d %H:%M %Z"),
        seconds=seconds,
        latency=latency,
        bare_copy=copy,
        by_producers=by_producers,
        by_size=by_size,
    )


def main() -> int:
    """Parse, measure, write bench/out/report.html and report.json."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-full")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument("--dir", type=Path, help="measure the disk that holds this directory")
    options = parser.parse_args()
    try:
        with quick.fresh_home(options.dir) as name:
            home = Path(name)
            home.chmod(0o755)
            results = measure(home, options.seconds)
    except harness.HarnessError as error:
        print(f"make bench-full: {error}", file=sys.stderr)
        return 1
    directory = quick.HERE / "out"
    directory.mkdir(exist_ok=True)
    (directory / "report.json").write_text(json.dumps(results, indent=2) + "\n")
    page = directory / "report.html"
    page.write_text(report.html(results))
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
