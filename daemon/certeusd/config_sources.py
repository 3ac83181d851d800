"""Reading the configuration: files, then variables, each key with the place that it came from.

```text
--config F (else /etc/certeus/certeus.toml)   then F.d/*.toml   then CERTEUS_<SECTION>__<KEY>
```

Later ones win key by key; a list is replaced whole. Every fault names its place, the key, and for
an unknown key the nearest one there is. Nothing here connects to anything.
"""

import contextlib
import difflib
import grp
import os
import pwd
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from certeusd import cpus, doors, systemd
from certeusd.config import (
    KIB,
    ApiSection,
    Config,
    ControlSection,
    IngestSection,
    Section,
    SendersSection,
    SyslogSection,
)
from certeusd.control import exposed
from certeusd.control.access import Roles, Who
from certeusd.exits import Exit, ExitError

DEFAULT_FILE = Path("/etc/certeus/certeus.toml")
PREFIX = "CERTEUS_"
DB_URL = "CERTEUS_DB_URL"
CREDENTIAL = "postgres-password"
API_KEY = "api-key"
API_KEY_LENGTH_MIN = 16
APPEND_GROUP = "certeus"
NOBODY = 65534
"""Ids that a user namespace cannot show: never allowed to append."""

PASSWORDS = ("password", "passfile", "sslpassword")
_SIZES = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_RECORD_OVERHEAD_BYTES = 72 * KIB
_DOOR_RING_BYTES_MIN = 512 * KIB

Table = dict[str, object]
Listener = TypeVar("Listener", bound=SendersSection)


class ConfigError(ExitError):
    """The configuration cannot be used; the message has file, key, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(Exit.CONFIGURATION, message)


class Loaded(NamedTuple):
    """The configuration without secrets, the DSN with them, and what to tell the operator."""

    config: Config
    dsn: str
    """With the password, if it was given inside; empty for the embedded server."""
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    origins: Mapping[str, str]
    """Where each key that is set was set: a file, or a variable."""


def load(config_file: str | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read all sources and check them; raises `ConfigError`."""
    raw: Table = {}
    origins: dict[str, str] = {}
    files = _files(config_file)
    for file in files:
        _merge(raw, _read(file), str(file), origins)
    variables = _merge_variables(raw, environ, origins)
    config = _convert(raw, origins)
    _cross_check(config, origins)
    dsn = config.postgres.dsn
    warnings = list[str]()
    shown = without_password(dsn)
    if shown != dsn:
        warnings.append(
            f"{origins['postgres.dsn']}: a password in postgres.dsn is seen by whoever sees the"
            " file or the environment; use postgres.password_file"
        )
        postgres = msgspec.structs.replace(config.postgres, dsn=shown)
        config = msgspec.structs.replace(config, postgres=postgres)
    sources = (*(str(file) for file in files), *variables)
    return Loaded(config, dsn, sources, tuple(warnings), origins)


def _files(config_file: str | None) -> list[Path]:
    main = Path(config_file) if config_file else DEFAULT_FILE
    if config_file and not main.is_file():
        raise ConfigError(f"cannot read {main}: no such file; give --config an existing one")
    return [
        *([main] if main.is_file() else []),
        *sorted(main.with_name(main.name + ".d").glob("*.toml")),
    ]


def _read(file: Path) -> Table:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error


def _nearest(name: str, known: list[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _sections() -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(Config)}


def section_keys(section: str) -> dict[str, msgspec.structs.FieldInfo]:
    """Keys of a section by name."""
    if section == "ingest":
        return {field.name: field for field in msgspec.structs.fields(IngestSection)}
    kind = cast(type[Section], _sections()[section].type)
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _check_section(section: str, place: str) -> None:
    known = list(_sections())
    if section not in known:
        raise ConfigError(
            f"{place}: unknown section [{section}]; nearest: [{_nearest(section, known)}]"
        )


def _check_key(section: str, key: str, place: str) -> None:
    known = list(section_keys(section))
    if key not in known:
        nearest = _nearest(key, known)
        raise ConfigError(f"{place}: unknown key {section}.{key}; nearest: {section}.{nearest}")


def _merge(raw: Table, new: Table, place: str, origins: dict[str, str]) -> None:
    for section, value in new.items():
        _check_section(section, place)
        tables: object = value if section == "ingest" else [value]
        if not isinstance(tables, list) or not all(
            isinstance(table, dict) for table in cast(list[object], tables)
        ):
            form = "[[ingest]]" if section == "ingest" else f"[{section}]"
            raise ConfigError(f"{place}: {section} is not a table; write {form}")
        for table in cast(list[Table], tables):
            for key, given in table.items():
                _check_key(section, key, place)
                table[key] = _size(section, key, given, place)
                origins[f"{section}.{key}"] = place
        if section == "ingest":
            raw[section] = tables
        else:
            known = cast(Table, raw.setdefault(section, {}))
            known.update(cast(Table, value))


def _size(section: str, key: str, value: object, place: str) -> object:
    """Bytes may be written `"64MiB"`."""
    if "bytes" not in key or not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].upper() not in _SIZES:
        raise ConfigError(
            f'{place}: cannot read {section}.{key} = "{value}": write bytes, or "64MiB"'
        )
    return int(match[1]) * _SIZES[match[2].upper()]


def _merge_variables(raw: Table, environ: Mapping[str, str], origins: dict[str, str]) -> list[str]:
    used = list[str]()
    given = {
        name: text for name, text in environ.items() if name.startswith(PREFIX) and "__" in name
    }
    if DB_URL in environ and f"{PREFIX}POSTGRES__DSN" not in given:
        _merge(raw, {"postgres": {"dsn": environ[DB_URL]}}, f"${DB_URL}", origins)
        used.append(f"${DB_URL}")
    for name, text in sorted(given.items()):
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        place = f"${name}"
        _check_section(section, place)
        if section == "ingest":
            raise ConfigError(f"{place}: [[ingest]] is a list; set it in a file")
        _check_key(section, key, place)
        kind: object = section_keys(section)[key].type
        value = text if kind is str else _toml_value(text)
        _merge(raw, {section: {key: value}}, place, origins)
        used.append(place)
    return used


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(raw: Table, origins: dict[str, str]) -> Config:
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        key = re.sub(r"\[[^\]]*\]", "", at.strip("`.")).lstrip(".")
        key = ".".join(key.split(".")[:2])
        place = origins.get(key, "configuration")
        raise ConfigError(f"{place}: cannot use {key}: {what[:1].lower() + what[1:]}") from error


def _cross_check(config: Config, origins: dict[str, str]) -> None:
    def refuse(key: str, what: str) -> None:
        raise ConfigError(f"{origins.get(key, 'configuration')}: cannot use {key}: {what}")

    worker, limits, log = config.worker, config.limits, config.log
    for key, value in (("worker.min", worker.min), ("worker.max", worker.max)):
        if worker.count and value:
            refuse(key, f"worker.count = {worker.count} is a fixed number; set one or the other")
    if worker.max and worker.min > worker.max:
        refuse("worker.min", f"{worker.min} is more than worker.max = {worker.max}")
    powers = {
        "worker.forward_bytes": worker.forward_bytes,
        "worker.return_bytes": worker.return_bytes,
        "limits.ring_bytes_max": limits.ring_bytes_max,
    }
    for key, value in powers.items():
        if value & (value - 1):
            refuse(key, f"{value} is not a power of two")
    record_bytes_max = limits.event_bytes_max + _RECORD_OVERHEAD_BYTES
    if record_bytes_max > worker.forward_bytes // 8:
        refuse(
            "limits.event_bytes_max",
            f"{limits.event_bytes_max} needs worker.forward_bytes of at least"
            f" {8 * record_bytes_max}",
        )
    if record_bytes_max > log.group_bytes_max:
        refuse("log.group_bytes_max", f"one event may take {record_bytes_max}")
    # So the largest group and the largest record behind it always fit into a segment.
    segment_bytes_min = max(4 * log.group_bytes_max, worker.forward_bytes // 2)
    if log.segment_bytes % 4096 or log.segment_bytes < segment_bytes_min:
        refuse(
            "log.segment_bytes",
            "a multiple of 4096, at least four log.group_bytes_max and half of"
            f" worker.forward_bytes: {segment_bytes_min}",
        )
    if 0 < log.bytes_max < 2 * log.segment_bytes:
        refuse("log.bytes_max", f"the log needs room for two segments: {2 * log.segment_bytes}")
    try:
        cpus.parse(config.cpu.cpus)
    except ValueError as error:
        refuse("cpu.cpus", f'{error}; write a list such as "2-7,10"')
    _check_metrics(config, origins, refuse)
    if config.postgres.dsn and not _is_postgres_url(config.postgres.dsn):
        refuse("postgres.dsn", "write postgresql://user@host:port/database")
    if not config.ingest:
        refuse("ingest", "at least one [[ingest]] is needed")
    paths = [listener.path for listener in config.ingest]
    if len(set(paths)) != len(paths):
        refuse("ingest.path", "two [[ingest]] have the same path")
    if doors.enabled(config) and limits.ring_bytes_max < _DOOR_RING_BYTES_MIN:
        refuse(
            "limits.ring_bytes_max",
            f"the doors (api, syslog, journal) need rings of at least {_DOOR_RING_BYTES_MIN}",
        )
    for name in doors.enabled(config):
        path: str | None = getattr(getattr(config, name), "path", None)
        if path is None:
            continue
        if path in paths:
            refuse(f"{name}.path", "an [[ingest]] or another door has the same path")
        paths.append(path)
    try:
        exposed.address(config.api.listen)
    except ValueError as error:
        refuse("api.listen", str(error))
    _check_syslog(config.syslog, refuse)


def _check_syslog(syslog: SyslogSection, refuse: Callable[[str, str], None]) -> None:
    for key in ("udp", "tcp"):
        try:
            at = exposed.address(getattr(syslog, key))
        except ValueError as error:
            refuse(f"syslog.{key}", str(error))
            return
        if at is not None and not syslog.for_everyone:
            refuse(
                f"syslog.{key}",
                "any user of this host can send there, and the section names who may; take the"
                " names or the port out",
            )


def _check_metrics(
    config: Config, origins: Mapping[str, str], refuse: Callable[[str, str], None]
) -> None:
    try:
        exposed.address(config.metrics.listen)
    except ValueError as error:
        refuse("metrics.listen", str(error))
    textfile = Path(config.metrics.textfile)
    if config.metrics.textfile and not (textfile.is_absolute() and textfile.suffix == ".prom"):
        refuse("metrics.textfile", "an absolute path that ends in .prom, as node_exporter wants it")
    for name in ("cpu_warning", "memory_warning", "latency_warning_ms", "error_rate_warning"):
        critical = name.replace("warning", "critical")
        low, high = getattr(config.thresholds, name), getattr(config.thresholds, critical)
        if high < low:
            key = critical if f"thresholds.{critical}" in origins else name
            refuse(f"thresholds.{key}", f"{critical} ({high:g}) is below {name} ({low:g})")


def _is_postgres_url(dsn: str) -> bool:
    try:
        return urlsplit(dsn).scheme in ("postgres", "postgresql")
    except ValueError:  # Its message may have the password.
        return False


def effective(config: Config, workers: int, uid: int) -> Config:
    """Return what children get: workers counted out, users and groups as numbers.

    A listener that names nobody allows `uid` (the daemon's), root and group `certeus`, if there is
    one.
    """
    listeners = tuple(_resolve("ingest", listener, uid) for listener in config.ingest)
    readers = who("api.readers", config.api.readers)
    numbers = (*map(str, sorted(readers.uids)), *(f"@{gid}" for gid in sorted(readers.gids)))
    api = msgspec.structs.replace(_resolve("api", config.api, uid), readers=numbers)
    syslog = config.syslog
    if not syslog.for_everyone:
        syslog = _resolve("syslog", syslog, uid)
        if syslog.for_everyone:
            # Whoever it named is nobody: that must not become everybody.
            syslog = msgspec.structs.replace(syslog, uids=(NOBODY,))
    worker = msgspec.structs.replace(config.worker, count=workers)
    return msgspec.structs.replace(config, ingest=listeners, api=api, syslog=syslog, worker=worker)


def _resolve(section: str, listener: Listener, uid: int) -> Listener:
    uids, gids = set(listener.uids), set(listener.gids)
    if not (uids or gids or listener.users or listener.groups):
        uids = {uid, 0}
        try:
            gids = {grp.getgrnam(APPEND_GROUP).gr_gid}
        except KeyError:
            gids = set[int]()
    try:
        uids |= {pwd.getpwnam(name).pw_uid for name in listener.users}
        gids |= {grp.getgrnam(name).gr_gid for name in listener.groups}
    except KeyError as error:
        raise ConfigError(
            f"cannot use {section}.users or {section}.groups of {listener.path}: {error.args[0]};"
            " make that user or group, or give numbers"
        ) from error
    return msgspec.structs.replace(
        listener, uids=tuple(sorted(uids - {NOBODY})), gids=tuple(sorted(gids - {NOBODY}))
    )


def roles(control: ControlSection) -> Roles:
    """Return who may ask what on the control socket; the control group's members are admins."""
    admins = who("control.admins", control.admins)
    with contextlib.suppress(KeyError):  # Made with the package; a daemon by hand does without.
        admins = admins._replace(gids=admins.gids | {grp.getgrnam(control.group).gr_gid})
    return Roles(
        readers=who("control.readers", control.readers),
        operators=who("control.operators", control.operators),
        admins=admins,
    )


def who(key: str, names: tuple[str, ...]) -> Who:
    """Return users and groups (`@name`) by their numbers.

    Raises:
        ConfigError: there is no such user or group.
    """
    uids, gids = set[int](), set[int]()
    for name in names:
        try:
            if name.startswith("@"):
                gid = name[1:]
                gids.add(int(gid) if gid.isdecimal() else grp.getgrnam(gid).gr_gid)
            else:
                uids.add(int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid)
        except KeyError as error:
            raise ConfigError(
                f"cannot use {key}: {error.args[0]}; write names of users, and of groups as @name"
            ) from error
    return Who(frozenset(uids - {NOBODY}), frozenset(gids - {NOBODY}))


def without_password(dsn: str) -> str:
    """Return the DSN as it may be shown."""
    parts = urlsplit(dsn)
    user, at, host = parts.netloc.rpartition("@")
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in PASSWORDS]
    kept = urlencode(query, safe="/") if len(query) != len(parse_qsl(parts.query)) else parts.query
    if ":" not in user and kept == parts.query:
        return dsn
    netloc = user.partition(":")[0] + at + host
    return urlunsplit((parts.scheme, netloc, parts.path, kept, parts.fragment))


def api_key(api: ApiSection, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the key of the api's loopback port, from file or credential; none: no port is served.

    Raises:
        ConfigError: a port is asked for, and no key that is long enough is there.
    """
    if not api.listen:
        return None
    file = Path(api.key_file) if api.key_file else systemd.credential(API_KEY, environ)
    if file is None:
        raise ConfigError(
            "cannot use api.listen: whoever is on this host could append there; set api.key_file"
            f" (or LoadCredential={API_KEY}:...) to a file with a key"
        )
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read api.key_file {file}: {error}") from error
    if len(key) < API_KEY_LENGTH_MIN or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"cannot use the key in {file}: it has not {API_KEY_LENGTH_MIN} printable ASCII"
            " characters at least; make one with `openssl rand -hex 32`"
        )
    return key


def postgres_dsn(loaded: Loaded, environ: Mapping[str, str] = os.environ) -> str:
    """Return the configured DSN with its password, from file or credential if there is one.

    Returns:
        Empty for the embedded server.
    """
    dsn = loaded.dsn
    given = loaded.config.postgres.password_file
    file = Path(given) if given else systemd.credential(CREDENTIAL, environ)
    if not dsn or file is None:
        return dsn
    try:
        password = file.read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read postgres.password_file {file}: {error}") from error
    parts = urlsplit(without_password(dsn))
    user, _, host = parts.netloc.rpartition("@")
    user = user or quote(pwd.getpwuid(os.geteuid()).pw_name)
    netloc = f"{user}:{quote(password, safe='')}@{host}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))
