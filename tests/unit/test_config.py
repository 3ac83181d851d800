"""The configuration: its sources, and what a wrong one is told."""

import re
from pathlib import Path

import msgspec
import pytest

from certeusd import config_sources
from certeusd.config import MIB, Config
from certeusd.config_sources import ConfigError, load
from certeusd.exits import Exit

REPOSITORY = Path(__file__).parents[2]


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "certeus.toml"
    file.write_text(text)
    return str(file)


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text), environ or {})
    assert error.value.code is Exit.CONFIGURATION
    return str(error.value)


def test_no_file_at_all_gives_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config_sources, "DEFAULT_FILE", tmp_path / "certeus.toml")
    assert load(None, {}).config == Config()


def test_shipped_file_documents_every_key_with_its_default(tmp_path: Path) -> None:
    text = (REPOSITORY / "etc" / "certeus.toml").read_text()
    assert load(written(tmp_path, text), {}).config == Config()
    uncommented = re.sub(r"^#(\w+ = .*)$", r"\1", text, flags=re.MULTILINE)
    assert load(written(tmp_path, uncommented), {}).config == Config()
    for section in msgspec.structs.fields(Config):
        for key in config_sources.section_keys(section.name):
            table = re.split(r"^\[+\w+\]+$", uncommented, flags=re.MULTILINE)
            names = re.findall(r"^\[+(\w+)\]+$", uncommented, flags=re.MULTILINE)
            body = table[names.index(section.name) + 1]
            assert re.search(rf"^{key} = ", body, flags=re.MULTILINE), f"{section.name}.{key}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[lmits]\n", "unknown section [lmits]; nearest: [limits]"),
        ("[log]\nlinger = 1\n", "unknown key log.linger; nearest: log.linger_us"),
        ("[[ingest]]\ntenent = 'a'\n", "unknown key ingest.tenent; nearest: ingest.tenant"),
        ("[log]\nlinger_us = 'x'\n", "cannot use log.linger_us: expected `int`"),
        ("[limits]\ndepth_max = 0\n", "cannot use limits.depth_max: expected `int` >= 1"),
        ("[log]\nsegment_bytes = '64 parsec'\n", 'log.segment_bytes = "64 parsec"'),
        ("[log]\nbytes_max = '100MiB'\n", "the log needs room for two segments: 134217728"),
        ("[worker]\nforward_bytes = 5000000\n", "worker.forward_bytes: 5000000 is not a power"),
        ("[limits]\nevent_bytes_max = '1MiB'\n", "needs worker.forward_bytes of at least"),
        ("[postgres]\ndsn = 'mysql://x'\n", "cannot use postgres.dsn"),
        ("worker = 1\n", "worker is not a table; write [worker]"),
        ("[ingest]\n", "ingest is not a table; write [[ingest]]"),
        ("[cpu]\npin = 'yes'\n", "cannot use cpu.pin"),
        ("[cpu]\ncpus = '2-'\n", 'cannot use cpu.cpus: "2-" is no CPU and no range'),
        ("[cpu]\ncpus = [2, 3]\n", "cannot use cpu.cpus: expected `str`"),
        ("[cpu]\ncpus = '0-9999'\n", 'cannot use cpu.cpus: "0-9999" is no range below 8192'),
        ("[metrics]\nlisten = '0.0.0.0:9464'\n", 'cannot use metrics.listen: "0.0.0.0:9464" is no'),
        ("[syslog]\nudp = '10.0.0.1:514'\n", 'cannot use syslog.udp: "10.0.0.1:514" is no'),
        ("[syslog]\ntcp = '[::1]:514'\nuids = [7]\n", "cannot use syslog.tcp: any user of this"),
        ("[syslog]\nenabled = true\npath = 'ingest.sock'\n", "cannot use syslog.path"),
        ("[metrics]\ntextfile = 'certeus.prom'\n", "cannot use metrics.textfile: an absolute path"),
        ("[metrics]\ntextfile = '/x/certeus.txt'\n", "that ends in .prom"),
        ("[metrics]\ntextfile_interval_ms = 1\n", "cannot use metrics.textfile_interval_ms"),
        ("[thresholds]\ncpu_warning = 0\n", "cannot use thresholds.cpu_warning"),
        ("[thresholds]\ncpu_critical = 1.01\n", "cannot use thresholds.cpu_critical"),
        (
            "[thresholds]\ncpu_critical = 0.5\n",
            "thresholds.cpu_critical: cpu_critical (0.5) is below cpu_warning (0.8)",
        ),
        (
            "[thresholds]\nmemory_warning = 0.91\n",
            "thresholds.memory_warning: memory_critical (0.9) is below memory_warning (0.91)",
        ),
        (
            "[thresholds]\nlatency_critical_ms = 99\n",
            "thresholds.latency_critical_ms: latency_critical_ms (99) is below",
        ),
        (
            "[thresholds]\nerror_rate_warning = 0.02\n",
            "thresholds.error_rate_warning: error_rate_critical (0.01) is below",
        ),
        (
            "[worker]\nmin = 4\nmax = 2\n",
            "worker.min: 4 is more than worker.max = 2",
        ),
        (
            "[worker]\ncount = 2\nmax = 4\n",
            "worker.max: worker.count = 2 is a fixed number; set one or the other",
        ),
        ("[worker]\ncount = 2\nmin = 2\n", "worker.min: worker.count = 2 is a fixed"),
        ("[log", "cannot read"),
    ],
)
def test_wrong_file_is_told_with_place_key_and_nearest(
    tmp_path: Path, text: str, told: str
) -> None:
    message = refusal(tmp_path, text)
    assert told in message
    assert str(tmp_path / "certeus.toml") in message


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    file = written(tmp_path, "[log]\nlinger_us = 1\nrecycle = false\n[dedup]\nkeys = 7\n")
    drop_ins = tmp_path / "certeus.toml.d"
    drop_ins.mkdir()
    (drop_ins / "20.toml").write_text("[log]\nlinger_us = 20\n")
    (drop_ins / "10.toml").write_text("[log]\nlinger_us = 10\nsegment_bytes = '32MiB'\n")
    loaded = load(file, {"CERTEUS_DEDUP__KEYS": "9", "CERTEUS_CPU__CPUS": "1-3", "PATH": "x"})
    log = loaded.config.log
    assert (log.linger_us, log.segment_bytes, log.recycle) == (20, 32 * MIB, False)
    assert (loaded.config.dedup.keys, loaded.config.cpu.cpus) == (9, "1-3")
    assert loaded.sources[-1] == "$CERTEUS_DEDUP__KEYS"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CERTEUS_LOG__LINGER", "5", "$CERTEUS_LOG__LINGER: unknown key log.linger; nearest"),
        ("CERTEUS_LGO__X", "5", "$CERTEUS_LGO__X: unknown section [lgo]; nearest: [log]"),
        ("CERTEUS_LOG__LINGER_US", "soon", "$CERTEUS_LOG__LINGER_US: cannot use log.linger_us"),
        ("CERTEUS_INGEST__PATH", "x", "set it in a file"),
    ],
)
def test_wrong_variable_is_told_by_its_name(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    assert told in refusal(tmp_path, "", {name: value})


def test_db_url_is_an_alias_that_the_full_name_beats(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    alias = {"CERTEUS_DB_URL": "postgresql://a@h/d"}
    assert load(file, alias).config.postgres.dsn == "postgresql://a@h/d"
    both = alias | {"CERTEUS_POSTGRES__DSN": "postgresql://b@h/d"}
    assert load(file, both).config.postgres.dsn == "postgresql://b@h/d"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:geheim@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u@h/d?password=geheim&host=/run/x", "postgresql://u@h/d?host=/run/x"),
    ],
)
def test_password_in_a_dsn_is_taken_with_a_warning_and_never_shown(
    tmp_path: Path, dsn: str, shown: str
) -> None:
    loaded = load(written(tmp_path, ""), {"CERTEUS_DB_URL": dsn})
    assert loaded.config.postgres.dsn == shown
    assert loaded.dsn == dsn
    assert config_sources.postgres_dsn(loaded, {}) == dsn
    assert len(loaded.warnings) == 1
    assert "geheim" not in str(loaded.warnings) + repr(loaded.config)


def test_password_file_and_credential_fill_the_dsn(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a/b c\n")
    given = written(
        tmp_path, f"[postgres]\ndsn = 'postgresql://u@h/d'\npassword_file = '{secret}'\n"
    )
    assert config_sources.postgres_dsn(load(given, {}), {}) == "postgresql://u:a%2Fb%20c@h/d"
    (tmp_path / config_sources.CREDENTIAL).write_text("xyz")
    loaded = load(written(tmp_path, "[postgres]\ndsn = 'postgresql://u@h/d'\n"), {})
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert config_sources.postgres_dsn(loaded, environ) == "postgresql://u:xyz@h/d"


def test_missing_config_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load("/nonexistent/certeus.toml", {})


def test_listener_without_names_allows_daemon_and_root() -> None:
    listener = config_sources.effective(Config(), 3, 1234)
    assert listener.worker.count == 3
    assert listener.ingest[0].uids == (0, 1234)


def test_users_become_numbers_and_nobody_never_matches(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, "[[ingest]]\nusers = ['root', 'nobody']\nuids = [7]\n"), {})
    listener = config_sources.effective(loaded.config, 1, 1234).ingest[0]
    assert listener.uids == (0, 7)


def test_unknown_user_of_a_listener_is_told(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, "[[ingest]]\nusers = ['nosuchuser']\n"), {})
    with pytest.raises(ConfigError, match="nosuchuser"):
        config_sources.effective(loaded.config, 1, 0)
