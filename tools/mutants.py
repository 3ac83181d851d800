"""Break each promise on purpose and see a test fail: ``make mutants``.

``tests/mutations/*.toml`` names, for each promise of the design, lines that keep it, what stands
there when it is broken, and the narrowest tests that must notice. One mutant at a time is put into
a scratch copy of the checkout, which is built there and never here; its killers must pass without
it and fail with it. A mutant that does not compile, or killers that find no test, are errors of
the list: they count like a survivor.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec
import psutil

ROOT = Path(__file__).resolve().parents[1]
LISTS = "tests/mutations"
SCRATCH = ROOT / "target" / "mutants"
KINDS = ("core", "ipc", "loom", "pytest")
NATIVE = {"core": "daemon/certeusd/_native.abi3.so", "ipc": "ipc/certeus/_native.abi3.so"}
CARGO_TIMEOUT_S = 1200.0
MARK = "CERTEUS_MUTANTS"
"""In the environment of all that is started here, so that what a mutant leaves behind is found."""
HANG_S = 30.0
"""So long a killer may take whose mutant is known to make it hang."""
CARGO_ENV = {
    # Fast to build, and fast enough to run.
    "CARGO_PROFILE_DEV_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    "CARGO_PROFILE_RELEASE_INCREMENTAL": "true",
    # The same cases in each run, and no memory of the ones that failed for a mutant.
    "PROPTEST_RNG_SEED": "1",
    "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "true",
}


class ListError(Exception):
    """The list is wrong, or what it needs cannot be built: no verdict on any test."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line that keeps a promise, broken."""

    name: str
    promise: int
    """Its number in DESIGN.md."""
    file: str
    find: str
    """Must be there exactly once."""
    replace: str
    killers: tuple[str, ...]
    """``core FILTER``, ``ipc FILTER`` and ``loom FILTER`` for cargo's tests, else pytest's ids."""
    why: str = ""
    hangs: bool = False
    """Killed when the killers do not end in time."""

    def by_kind(self) -> dict[str, list[str]]:
        """Killers without their kind, in the order in which kinds are run."""
        sorted_out: dict[str, list[str]] = {}
        for killer in self.killers:
            kind, _, rest = killer.partition(" ")
            if kind in KINDS:
                sorted_out.setdefault(kind, []).append(rest)
            else:
                sorted_out.setdefault("pytest", []).append(killer)
        return {kind: sorted_out[kind] for kind in KINDS if kind in sorted_out}


@dataclass
class Result:
    """What became of one mutant."""

    mutant: str
    promise: int
    killed_by: str = ""
    error: str = ""
    seconds: float = 0.0
    file: str = ""
    killers: list[str] = field(default_factory=list[str])


def load(root: Path = ROOT) -> list[Mutant]:
    """Read all lists; names are unique.

    Raises:
        ListError: a key is missing, unknown, or no two names may be the same.
    """
    mutants: list[Mutant] = []
    for path in sorted((root / LISTS).glob("*.toml")):
        for row in tomllib.loads(path.read_text())["mutant"]:
            try:
                mutants.append(msgspec.convert(row, Mutant))
            except msgspec.ValidationError as error:
                raise ListError(f"{path.name}: {row.get('name')}: {error}") from error
    names = [mutant.name for mutant in mutants]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ListError(f"two mutants are called {', '.join(sorted(doubled))}")
    return mutants


class Tree:
    """The scratch copy. Files keep their times when they have not changed, so builds are small."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.path = scratch / "tree"
        self.cargo_target = scratch / "cargo"
        self.path.mkdir(parents=True, exist_ok=True)

    def copy(self) -> None:
        """Make it equal to the checkout, with changes that are not committed."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.root, check=True, capture_output=True,
        ).stdout.split(b"\0")  # fmt: skip
        wanted = {Path(os.fsdecode(name)) for name in listed if name}
        wanted = {name for name in wanted if (self.root / name).is_file()}
        for path in sorted(self.path.rglob("*"), reverse=True):
            name = path.relative_to(self.path)
            if path.is_file() and name not in wanted and path.suffix != ".so":
                path.unlink()
        for name in sorted(wanted):
            source, copy = self.root / name, self.path / name
            if not copy.is_file() or copy.read_bytes() != source.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)

    def break_line(self, mutant: Mutant) -> str:
        """Put the mutant in; returns the file's text without it."""
        path = self.path / mutant.file
        text = path.read_text()
        count = text.count(mutant.find)
        if count != 1:
            raise ListError(f"its text is {count} times in {mutant.file}, not once")
        path.write_text(text.replace(mutant.find, mutant.replace))
        return text

    def mend(self, mutant: Mutant, text: str) -> None:
        """Take the mutant out."""
        (self.path / mutant.file).write_text(text)

    def environment(self) -> dict[str, str]:
        """For cargo and pytest in the copy: imports find the copy, not this checkout."""
        folders = [str(self.path / "daemon"), str(self.path / "ipc")]
        return {
            **os.environ,
            **CARGO_ENV,
            "CARGO_TARGET_DIR": str(self.cargo_target),
            "PYTHONPATH": os.pathsep.join(folders),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(os.getpid()),
        }


@dataclass
class Run:
    """How a command ended; ``code`` is None when its time was over."""

    code: int | None
    output: str


def run(command: Sequence[str], tree: Tree, folder: str, timeout_s: float, **env: str) -> Run:
    """Run a command to its end, or end it and all that it started."""
    process = subprocess.Popen(
        command, cwd=tree.path / folder, env={**tree.environment(), **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Run(None, output)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Run(process.returncode, output)


def end_strays() -> None:
    """End what tests of a mutant have left behind: nothing else carries our mark."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(os.getpid()):
                process.kill()


@dataclass(frozen=True)
class Cargo:
    """One set of Rust tests: how it is built, and where it runs."""

    package: str
    folder: str
    options: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()

    def build(self, tree: Tree) -> list[str]:
        """Build the test programs; their paths.

        Raises:
            ListError: they do not compile.
        """
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json", "-q",
                   "-p", self.package, "--no-default-features", *self.options]  # fmt: skip
        env = dict(self.env)
        if env:
            env["CARGO_TARGET_DIR"] = str(tree.cargo_target.with_name("cargo-loom"))
        done = run(command, tree, ".", CARGO_TIMEOUT_S, **env)
        if done.code != 0:
            raise ListError(f"it does not compile:\n{compiler_errors(done.output)}")
        found = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        return [row["executable"] for row in found if row.get("executable")]


CARGO = {
    "core": Cargo("certeus-core", "daemon", ("--lib",)),
    "ipc": Cargo("certeus-ipc", "ipc", ("--lib", "--test", "codec", "--test", "ring")),
    "loom": Cargo("certeus-ipc", "ipc", ("--release", "--test", "loom"),
                  (("RUSTFLAGS", "--cfg loom"),)),
}  # fmt: skip


def compiler_errors(output: str) -> str:
    """What the compiler says, out of cargo's messages."""
    told: list[str] = []
    for line in output.splitlines():
        message = json.loads(line).get("message") if line.startswith("{") else None
        if message and message.get("level") == "error":
            told.append(message.get("rendered", ""))
    return "".join(told)[:3000] or output[-3000:]


@dataclass
class Verdict:
    """What a set of killers says: nothing failed, or the first that did; or they hung."""

    failed: str = ""
    hung: bool = False


class Killers:
    """Builds and runs tests in the copy."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def cargo(self, kind: str, filters: Sequence[str], limit_s: float, alone: bool) -> Verdict:
        """Build one kind and run what the filters match; each must match a test."""
        programs = CARGO[kind].build(self.tree)
        folder = CARGO[kind].folder
        listed = [run([program, "--list"], self.tree, folder, 60.0).output for program in programs]
        names = re.findall(r"^(\S+): test$", "\n".join(listed), re.MULTILINE)
        for wanted in filters:
            if not any(wanted in name for name in names):
                raise ListError(f"no test of {kind} is called {wanted}")
        for program in programs:
            options = ["--test-threads=1"] if alone else []
            done = run([program, *filters, *options], self.tree, folder, limit_s)
            if done.code is None:
                return Verdict(hung=True)
            if done.code != 0:
                return Verdict(failed=rust_failure(done))
        return Verdict()

    def build_native(self, crates: Iterable[str]) -> None:
        """Build the Python modules of the copy in place."""
        for crate in crates:
            command = ["cargo", "build", "--locked", "--release", "-q", "-p", f"certeus-{crate}"]
            done = run(command, self.tree, ".", CARGO_TIMEOUT_S)
            if done.code != 0:
                raise ListError(f"it does not compile:\n{done.output[-3000:]}")
            built = self.tree.cargo_target / "release" / f"libcerteus_{crate}.so"
            target = self.tree.path / NATIVE[crate]
            target.unlink(missing_ok=True)
            shutil.copy(built, target)

    def pytest(self, ids: Sequence[str], limit_s: float, alone: bool) -> Verdict:
        """Run tests by their ids."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE",
                   "--rootdir", str(self.tree.path), "--seed", "1", *ids]  # fmt: skip
        if alone:
            command.append("-x")
        done = run(command, self.tree, ".", limit_s)
        if done.code is None or (done.code == 1 and "Timeout (>" in done.output):
            return Verdict(hung=True)
        if done.code == 0:
            return Verdict()
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.output, re.MULTILINE)
        if done.code != 1 or found is None:
            raise ListError(f"pytest ended with {done.code}:\n{done.output[-3000:]}")
        return Verdict(failed=found.group(1))

    def run(self, kind: str, names: Sequence[str], limit_s: float, *, alone: bool) -> Verdict:
        """Run killers of one kind, all at once or (`alone`) one after the other."""
        if kind == "pytest":
            return self.pytest(names, limit_s, alone)
        return self.cargo(kind, names, limit_s, alone)


def rust_failure(done: Run) -> str:
    """The first test that failed, or the one that took its process with it."""
    failed = re.search(r"^test (\S+) (?:- should panic )?\.\.\. FAILED", done.output, re.MULTILINE)
    if failed:
        return failed.group(1)
    begun = re.findall(r"^test (\S+) (?:- should panic )?\.\.\. (?!ok)", done.output, re.MULTILINE)
    if begun and done.code is not None and done.code < 0:
        return f"{begun[-1]} (signal {-done.code})"
    raise ListError(f"the tests ended with {done.code} and named none:\n{done.output[-3000:]}")


def crates_of(mutant: Mutant) -> list[str]:
    """Python modules that the mutant changes."""
    if mutant.file.startswith("ipc/src/"):
        return ["core", "ipc"]
    return ["core"] if mutant.file.startswith("daemon/src/") else []


class Trial:
    """All mutants, one after the other."""

    def __init__(self, tree: Tree, timeout_s: float) -> None:
        self.tree = tree
        self.timeout_s = timeout_s
        self.killers = Killers(tree)

    def prepare(self, mutants: Sequence[Mutant]) -> None:
        """Build the Python modules, if any killer needs them."""
        if any("pytest" in mutant.by_kind() for mutant in mutants):
            self.killers.build_native(NATIVE)
            self.keep_native()
            self.look_where_imports_lead()

    def baseline(self, mutants: Sequence[Mutant]) -> None:
        """Without any mutant, every killer passes.

        Raises:
            ListError: one does not.
        """
        names: dict[str, set[str]] = {}
        for mutant in mutants:
            for kind, killers in mutant.by_kind().items():
                names.setdefault(kind, set()).update(killers)
        for kind in KINDS:
            if kind not in names:
                continue
            begin = time.monotonic()
            verdict = self.killers.run(kind, sorted(names[kind]), CARGO_TIMEOUT_S, alone=False)
            if verdict.failed or verdict.hung:
                raise ListError(f"without any mutant: {verdict.failed or f'{kind} hangs'}")
            say(f"{kind}: {len(names[kind])} killers pass", time.monotonic() - begin)

    def look_where_imports_lead(self) -> None:
        """The copy is what is tested."""
        code = "import certeus, certeusd; print(certeus.__file__, certeusd.__file__)"
        found = run([sys.executable, "-c", code], self.tree, ".", 60.0).output.split()
        strays = [path for path in found if not path.startswith(str(self.tree.path))]
        if strays or not found:
            raise ListError(f"imports lead out of the copy: {found}")

    def keep_native(self) -> None:
        """Remember the Python modules that have no mutant in them."""
        for name in NATIVE.values():
            shutil.copy(self.tree.path / name, self.tree.path / f"{name}.clean.so")

    def bring_native_back(self) -> None:
        """Put them in place again."""
        for name in NATIVE.values():
            (self.tree.path / name).unlink(missing_ok=True)
            shutil.copy(self.tree.path / f"{name}.clean.so", self.tree.path / name)

    def attempt(self, mutant: Mutant) -> Result:
        """Put one mutant in, see who notices, take it out."""
        result = Result(mutant.name, mutant.promise, file=mutant.file)
        result.killers = list(mutant.killers)
        begin = time.monotonic()
        text: str | None = None
        native = False
        try:
            text = self.tree.break_line(mutant)
            for kind, names in mutant.by_kind().items():
                if kind == "pytest" and crates_of(mutant):
                    native = True
                    self.killers.build_native(crates_of(mutant))
                limit_s = HANG_S if mutant.hangs else self.timeout_s
                verdict = self.killers.run(kind, names, limit_s, alone=True)
                if verdict.hung and not mutant.hangs:
                    raise ListError(f"its killers ({kind}) hang, and it does not say so")
                if verdict.failed or verdict.hung:
                    result.killed_by = verdict.failed or f"{names[0]} (hangs)"
                    break
        except ListError as error:
            result.error = str(error)
        finally:
            end_strays()
            if text is not None:
                self.tree.mend(mutant, text)
            if native:
                self.bring_native_back()
        result.seconds = time.monotonic() - begin
        return result


def say(text: str, seconds: float) -> None:
    """One line of progress."""
    print(f"  {text:<84}{seconds:6.1f} s", flush=True)


def verdict_of(result: Result) -> str:
    """What the table says of a mutant."""
    if result.error:
        return f"ERROR: {result.error.splitlines()[0]}"
    return result.killed_by or "SURVIVED"


def table(results: Sequence[Result]) -> list[str]:
    """The closing table, by promise."""
    rows = [("promise", "mutant", "killed by", "seconds")]
    for result in sorted(results, key=lambda result: result.promise):
        seconds = f"{result.seconds:.1f}"
        rows.append((str(result.promise), result.mutant, verdict_of(result), seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="mutants whose name has this in it; may be given again")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="only print the list")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--timeout", type=float, default=180.0, metavar="SECONDS",
                        help="of one run of killers (default: %(default)s)")  # fmt: skip
    parser.add_argument("--no-baseline", action="store_true",
                        help="do not look whether the killers pass without a mutant")  # fmt: skip
    return parser.parse_args(arguments)


def main() -> int:
    """Run the list; 1 if a mutant survives or the list is wrong."""
    options = parse()
    mutants = load()
    if options.only:
        mutants = [m for m in mutants if any(part in m.name for part in options.only)]
    if not mutants:
        print("no mutant has such a name; --list prints them", file=sys.stderr)
        return 1
    if options.list:
        for mutant in mutants:
            print(f"{mutant.promise}  {mutant.name:<52}  {mutant.file}")
        return 0
    begin = time.monotonic()
    tree = Tree(ROOT, SCRATCH)
    tree.copy()
    trial = Trial(tree, options.timeout)
    try:
        trial.prepare(mutants)
        if not options.no_baseline:
            trial.baseline(mutants)
    except ListError as error:
        print(f"\n  {error}", file=sys.stderr)
        return 1
    results: list[Result] = []
    for number, mutant in enumerate(mutants, start=1):
        result = trial.attempt(mutant)
        results.append(result)
        say(f"{number:3}/{len(mutants)} {mutant.name}: {verdict_of(result)}"[:84], result.seconds)
        if result.error:
            print(result.error, flush=True)
    print()
    print("\n".join(table(results)))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    alive = [result for result in results if not result.killed_by]
    minutes = (time.monotonic() - begin) / 60
    print(f"\n{len(results)} mutants, {len(results) - len(alive)} killed, {minutes:.1f} minutes")
    return 1 if alive else 0


if __name__ == "__main__":
    raise SystemExit(main())
