"""A run on disk: JSON that people and programs can read, and that nobody can change unseen.

::

    {
    "schema_version": 1,
    "run": {...},
    "signature": {"algorithm": "ed25519", "public_key": "<hex>", "signature": "<hex>"}
    }

The signature (RFC 8032) is over the exact bytes of the value of ``run``, as they stand in the file:
what is between ``"run": `` at the start of the third line and the comma at the end of the line
before ``"signature"``. ``signature`` is null in a run without a key. A run has one encoding only
(fields in the order of `results.Run`, indented by one space, UTF-8), and so has the file around it:
a file that differs from it by any byte is refused, keys that stand there twice included.

A signature says who vouches, not that it is true. So a file is also held against itself: labels,
percentiles, rates and gates are computed again from the measurements. Rules and bars are part of
the schema: who changes one raises ``SCHEMA_VERSION``. Evidence of another version is refused; the
commit that it names can verify it.
"""

from typing import NamedTuple

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from certeus_bench import derive
from certeus_bench.results import SCHEMA_VERSION, Run

ALGORITHM = "ed25519"


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who vouches for a run."""

    algorithm: str
    public_key: str
    signature: str


class Evidence(NamedTuple):
    """A run, and who vouches for it if anybody does."""

    run: Run
    signature: Signature | None


class EvidenceError(Exception):
    """A file is no valid evidence; the message has one line for each thing that is wrong."""


class _Version(msgspec.Struct):
    schema_version: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    run: Run
    signature: Signature | None


def encode(run: Run, key: SigningKey | None) -> bytes:
    """The file's bytes; without a key it is unsigned."""
    run = msgspec.json.decode(msgspec.json.encode(run), type=Run)  # 1 s becomes 1.0 s, as when read
    signature = None
    if key is not None:
        signature = Signature(
            algorithm=ALGORITHM,
            public_key=key.verify_key.encode().hex(),
            signature=key.sign(_run_bytes(run)).signature.hex(),
        )
    return _file_bytes(run, signature)


def decode(data: bytes) -> Evidence:
    """What a file says, unchecked but for its form; `EvidenceError` if it has another."""
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise EvidenceError(
                f"schema version {version} is not known here, only {SCHEMA_VERSION}:"
                " use the certeus-bench that wrote it"
            )
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EvidenceError(f"this is no evidence: {error}") from error
    return Evidence(file.run, file.signature)


def verify(data: bytes, public_key: str | None = None) -> Evidence:
    """The run of a file in which everything is in order, but for a signature that may be missing.

    Raises:
        EvidenceError: it was changed, is signed by another key than ``public_key`` (hex), or states
            what does not follow from its measurements.
    """
    evidence = decode(data)
    faults = _form_faults(data, evidence)
    faults += _signature_faults(evidence, public_key)
    faults += derive.contradictions(evidence.run)
    if faults:
        raise EvidenceError("\n".join(faults))
    return evidence


def _run_bytes(run: Run) -> bytes:
    return msgspec.json.format(msgspec.json.encode(run), indent=1)


def _file_bytes(run: Run, signature: Signature | None) -> bytes:
    return b'{\n"schema_version": %d,\n"run": %b,\n"signature": %b\n}\n' % (
        SCHEMA_VERSION,
        _run_bytes(run),
        msgspec.json.encode(signature),
    )


def _form_faults(data: bytes, evidence: Evidence) -> list[str]:
    if evidence.run.schema_version != SCHEMA_VERSION:
        return [f"the run's schema version {evidence.run.schema_version} is not the file's"]
    written = _file_bytes(*evidence)
    if data == written:
        return []
    pairs = zip(data.splitlines(), written.splitlines(), strict=False)
    line = next((number for number, (one, other) in enumerate(pairs, 1) if one != other), None)
    where = f"line {line}" if line else "the end"
    return [f"{where} is not as certeus-bench writes it: the file was edited"]


def _signature_faults(evidence: Evidence, public_key: str | None) -> list[str]:
    signature = evidence.signature
    if signature is None:
        return [] if public_key is None else ["nobody signed it, so not this key either"]
    if signature.algorithm != ALGORITHM:
        return [f"signed by {signature.algorithm!r}; only {ALGORITHM} is known here"]
    try:
        key = VerifyKey(_unhex(signature.public_key))
        key.verify(_run_bytes(evidence.run), _unhex(signature.signature))
    except (ValueError, BadSignatureError):
        return ["the run is not the one that was signed: it, or its signature, was changed"]
    if public_key is not None and signature.public_key != public_key:
        return [f"signed by {signature.public_key}, not by {public_key}"]
    return []


def _unhex(text: str) -> bytes:
    """Bytes of hex, which has one form only: `ValueError` for capitals and spaces."""
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise ValueError(text)
    return data
