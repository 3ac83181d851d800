"""Builds the fuzz targets of `fuzz/` and runs each for a while from its seeds: `make fuzz`.

    tools/fuzz.py [--seconds N] [--seed N] [TARGET...]

The flags are those of ``cargo fuzz run --sanitizer none``: coverage by LLVM's own pass, which a
stable compiler has too. What a run finds new is kept in ``target/fuzz/corpus``; an input that
breaks a rule in ``target/fuzz/broken``, and the exit code is 1.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "fuzz"
OUT = ROOT / "target" / "fuzz"
COVERAGE = (
    *("-Cpasses=sancov-module", "-Ccodegen-units=1", "--cfg fuzzing"),
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)
INPUT_BYTES_MAX = 2048
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)


class BrokenError(Exception):
    """An input broke a rule, or a target could not be built; the message has the whole output."""


def targets() -> list[str]:
    """The names of all targets."""
    manifest = tomllib.loads((FUZZ / "Cargo.toml").read_text())
    return [target["name"] for target in manifest["bin"]]


def build() -> Path:
    """Build all targets; the directory that they are in."""
    host = _output(["rustc", "-vV"]).partition("host: ")[2].split()[0]
    # A target of its own keeps the flags away from build scripts and macros.
    _output(
        [
            *("cargo", "build", "--quiet", "--locked", "--release", "--bins"),
            *("--manifest-path", str(FUZZ / "Cargo.toml")),
            *("--target", host, "--target-dir", str(OUT)),
        ],
        RUSTFLAGS=" ".join(COVERAGE),
    )
    return OUT / host / "release"


def run(programs: Path, target: str, *, seconds: int, seed: int) -> int:
    """Run one target; how many inputs it tried."""
    corpus, broken = OUT / "corpus" / target, OUT / "broken"
    corpus.mkdir(parents=True, exist_ok=True)
    broken.mkdir(exist_ok=True)
    told = _output(
        [
            *(str(programs / target), f"-max_total_time={seconds}", f"-seed={seed or 1}"),
            *(f"-max_len={INPUT_BYTES_MAX}", "-timeout=60"),
            *(f"-artifact_prefix={broken}/{target}-", str(corpus), str(FUZZ / "corpus" / target)),
        ]
    )
    done = _DONE.search(told)
    if not done:
        raise BrokenError(f"cannot run {target}: it did not say how many inputs it tried\n{told}")
    return int(done[1])


def _output(command: list[str], **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise BrokenError(f"cannot run {' '.join(command)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def main() -> int:
    """Run the targets named, or all."""
    parser = argparse.ArgumentParser(description="fuzz what reads bytes that others wrote")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(targets()))
    options = parser.parse_args()
    try:
        programs = build()
        for target in options.targets or targets():
            print(f"  {target:<12}", end="", flush=True)
            inputs = run(programs, target, seconds=options.seconds, seed=options.seed)
            print(f"{inputs:>12,} inputs in {options.seconds} s, no rule broken")
    except BrokenError as error:
        print(f"failed\n{error}", file=sys.stderr)
        print(f"what broke it is in {OUT / 'broken'}: give it to the target", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
