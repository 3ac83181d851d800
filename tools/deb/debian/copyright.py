"""Write debian/copyright: our licence, and that of every package and crate that is shipped with us.

    copyright.py SITE_PACKAGES [VENDORED_CRATES LINKED]

`LINKED` is what ``cargo tree`` names: a line a crate, ``NAME vVERSION``. Texts are those that the
packages and crates bring themselves.
"""

import re
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
LICENCE_FILES = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
HOLDER = re.compile(r"(copyright|\(c\)|©).*(\d{4}|authors|contributors)", re.IGNORECASE)
HOLDERS_MAX = 12


class Part(NamedTuple):
    """Something that others wrote."""

    name: str
    files: str
    """Where it is in the package, as a pattern; of a crate, the module that it is linked into."""
    texts: list[str]
    said: str
    """What its metadata call its licence; shown where it brings no text."""


def texts_below(folder: Path) -> list[str]:
    """Texts of the licence files of a package or crate, each once; of a choice, MIT."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and LICENCE_FILES.match(path.name) and path.suffix != ".py"
    ]
    chosen = [path for path in files if path.name.upper() == "LICENSE-MIT"] or files
    return list(dict.fromkeys(path.read_text(errors="replace").strip() for path in chosen))


def packages(site: Path) -> Iterator[Part]:
    """Python packages that are installed in a directory, certeus itself apart."""
    for folder in sorted(site.glob("*.dist-info")):
        metadata = HeaderParser().parsestr((folder / "METADATA").read_text(errors="replace"))
        name = metadata["Name"]
        if name == "certeus":
            continue
        said = metadata.get("License-Expression") or metadata.get("License") or "see its metadata"
        stem = folder.name.split("-")[0]
        yield Part(name, f"usr/lib/certeus/*/{stem}*", texts_below(folder), said.splitlines()[0])


def crates(vendored: Path, linked: Path) -> Iterator[Part]:
    """Crates that are linked into our modules."""
    for name, version in sorted(set(re.findall(r"^(\S+) v(\S+)$", linked.read_text(), re.M))):
        folder = vendored / f"{name}-{version}"
        said = re.search(r'^license = "(.*)"$', (folder / "Cargo.toml").read_text(), re.M)
        where = "usr/lib/certeus/*/_native.abi3.so"
        yield Part(f"crate {name}", where, texts_below(folder), said.group(1) if said else "")


def holders(texts: list[str]) -> list[str]:
    """Lines of licences that say whose it is."""
    lines = [line.strip(" #*") for text in texts for line in text.splitlines()]
    whose = [line for line in lines if HOLDER.match(line)]
    return list(dict.fromkeys(whose))[:HOLDERS_MAX] or ["its authors, who name nobody"]


def indented(text: str) -> str:
    """Text as a continued field: an empty line is a dot."""
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in text.splitlines())


def paragraph(files: str, whose: list[str], licence: str, text: str) -> str:
    """One paragraph of the format."""
    held = "\n ".join(whose)
    return f"Files: {files}\nCopyright: {held}\nLicense: {licence}\n{indented(text)}\n"


def main() -> None:
    """Print the file."""
    ours = Path("LICENSE").read_text().strip()
    parts = list(packages(Path(sys.argv[1])))
    if len(sys.argv) > 2:
        parts += crates(Path(sys.argv[2]), Path(sys.argv[3]))
    out = [f"Format: {FORMAT}\nUpstream-Name: certeus\n"]
    out.append(paragraph("*", holders([ours]), "MIT", ours))
    for part in parts:
        text = "\n\n".join(part.texts) or f"It brings no text; its metadata say: {part.said}"
        licence = re.sub(r"[^A-Za-z0-9.+-]+", "-", part.name) + "-licence"
        about = f"{part.name}: {part.said}\n\n{text}"
        out.append(paragraph(part.files, holders(part.texts), licence, about))
    sys.stdout.write("\n".join(out))


if __name__ == "__main__":
    main()
