"""Write requirements.lock and those beside it: exact versions, with the hash of every file.

What is wanted stands in pyproject.toml alone; this asks pip-tools, in an environment that is thrown
away, for versions that fit. ``make lock`` keeps what is locked and adds what is new;
``make lock UPGRADE=1`` takes the newest of everything.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP_TOOLS = "pip-tools==7.6.2"
QUIET = [
    "--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras",
    "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options",
]  # fmt: skip


def wanted() -> dict[str, list[str]]:
    """Requirements by lock file, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    runtime = [one for extra in ("daemon", "embedded", "top", "bench") for one in extras[extra]]
    groups = project["dependency-groups"]
    return {
        "requirements.lock": ["pip", "wheel", *project["build-system"]["requires"], *runtime],
        "requirements-dev.lock": groups["dev"],
        "bench/certeus_bench/peers/requirements-durable.txt": groups["durable-peers"],
        "bench/certeus_bench/peers/requirements-ring.txt": groups["ring-peers"],
    }


def main() -> None:
    """Compile the first, then the others, which constrain themselves by it."""
    upgrade = ["--upgrade"] if os.environ.get("UPGRADE") else []
    environment = os.environ | {"CUSTOM_COMPILE_COMMAND": "make lock"}
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = f"{scratch}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", PIP_TOOLS], check=True)
        for name, requirements in wanted().items():
            text = "\n".join(requirements) + "\n"
            command = [python, "-m", "piptools", "compile", *QUIET, *upgrade, "-o", name, "-"]
            if name != "requirements.lock":
                command += ["--constraint", "requirements.lock"]
            subprocess.run(command, cwd=ROOT, input=text, text=True, check=True, env=environment)
            sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
