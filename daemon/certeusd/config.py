"""The configuration: one Struct a section, units last. `etc/certeus.toml` documents every key.

`certeusd.config_sources` reads it. Children get the effective one by the channel: `[[ingest]]`
and `[api]` resolved to numbers, `worker.count` counted out, no secrets in it.
"""

from typing import Annotated, Literal

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrZero = Annotated[int, msgspec.Meta(ge=0)]
Ratio = Annotated[float, msgspec.Meta(gt=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=3_600_000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Match = Annotated[
    str, msgspec.Meta(pattern=r"\A(?:\+|(?!__)[A-Z_][A-Z0-9_]*=[^\n]*)\Z", max_length=4096)
]
"""As journalctl takes it."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration."""


class WorkerSection(Section, frozen=True):
    """`[worker]`."""

    count: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    min: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    max: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    forward_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB, le=GIB)] = 4 * MIB
    return_bytes: Annotated[int, msgspec.Meta(ge=64 * KIB, le=GIB)] = MIB


class CpuSection(Section, frozen=True):
    """`[cpu]`."""

    pin: Literal["auto", "on", "off"] = "auto"
    cpus: str = ""


class MemorySection(Section, frozen=True):
    """`[memory]`."""

    prefault: bool = False
    huge_pages: bool = False
    lock: bool = False


class SendersSection(Section, frozen=True):
    """A socket, and who may append there as which tenant."""

    path: Name
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)] = 0o666
    tenant: Name = "default"
    uids: tuple[CountOrZero, ...] = ()
    users: tuple[Name, ...] = ()
    gids: tuple[CountOrZero, ...] = ()
    groups: tuple[Name, ...] = ()


class ListenerSection(SendersSection, frozen=True):
    """A socket where events may name their source."""

    sources: tuple[Name, ...] = ("*",)


class IngestSection(ListenerSection, frozen=True):
    """One `[[ingest]]`: for the library."""

    path: Name = "ingest.sock"


class ApiSection(ListenerSection, frozen=True):
    """`[api]`: HTTP, for who does not have the library."""

    path: Name = "api.sock"
    enabled: bool = True
    readers: tuple[Name, ...] = ()
    listen: str = ""
    key_file: str = ""
    connections_max: Count = 4096
    connections_per_peer_max: Count = 1024
    body_bytes_max: Annotated[int, msgspec.Meta(ge=64 * KIB, le=GIB)] = 16 * MIB
    body_timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 30_000
    events_per_s_max: CountOrZero = 0


class SyslogSection(SendersSection, frozen=True):
    """`[syslog]`: RFC 5424 and RFC 3164, by datagram and by stream."""

    path: Name = "syslog.sock"
    enabled: bool = False
    udp: str = ""
    tcp: str = ""
    type: Name = "syslog"
    message_bytes_max: Annotated[int, msgspec.Meta(ge=KIB, le=MIB)] = 64 * KIB
    connections_max: Annotated[int, msgspec.Meta(ge=2)] = 1024
    udp_buffer_bytes: Annotated[int, msgspec.Meta(ge=4 * KIB, le=GIB)] = 4 * MIB

    @property
    def for_everyone(self) -> bool:
        """Whether it names nobody, and so takes what any user of this host sends."""
        return not (self.uids or self.users or self.gids or self.groups)


class JournalSection(Section, frozen=True):
    """`[journal]`: follows the systemd journal of this host."""

    enabled: bool = False
    tenant: Name = "default"
    source: Name = "journal"
    type: Name = "journal"
    matches: tuple[Match, ...] = ()
    since: Literal["now", "boot", "oldest"] = "now"
    directory: str = ""


class LimitsSection(Section, frozen=True):
    """`[limits]`."""

    event_bytes_max: Annotated[int, msgspec.Meta(ge=KIB, le=2 * MIB)] = 256 * KIB
    depth_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 64
    sessions_max: Count = 1024
    sessions_per_uid_max: Count = 256
    ring_bytes_max: Annotated[int, msgspec.Meta(ge=64 * KIB, le=16 * MIB)] = 16 * MIB
    ring_bytes_total_max: Annotated[int, msgspec.Meta(ge=64 * KIB)] = GIB
    ring_bytes_per_uid_max: Annotated[int, msgspec.Meta(ge=64 * KIB)] = 256 * MIB


class LogSection(Section, frozen=True):
    """`[log]`."""

    segment_bytes: Annotated[int, msgspec.Meta(ge=4 * MIB, le=4 * GIB)] = 64 * MIB
    group_bytes_max: Annotated[int, msgspec.Meta(ge=4 * KIB, le=64 * MIB)] = MIB
    group_records_max: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 8192
    linger_us: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1000
    bytes_max: CountOrZero = 0
    disk_reserve_bytes: CountOrZero = 2 * GIB
    retain_bytes: CountOrZero = 0
    recycle: bool = True


class DedupSection(Section, frozen=True):
    """`[dedup]`."""

    keys: CountOrZero = 2_000_000
    producers: Count = 65_536


class PostgresSection(Section, frozen=True):
    """`[postgres]`."""

    dsn: str = ""
    password_file: str = ""
    data: Literal["json", "jsonb"] = "json"
    batch_rows_max: Count = 50_000
    batch_bytes_max: Annotated[int, msgspec.Meta(ge=64 * KIB, le=GIB)] = 4 * MIB
    batch_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 10
    connections: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2
    retention_days: CountOrZero = 0
    stall_timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 60_000
    lock_timeout_ms: Annotated[int, msgspec.Meta(ge=10, le=3_600_000)] = 5_000
    dead_letters_percent_max: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    dead_letters_window_rows: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    user: str = ""


class ControlSection(Section, frozen=True):
    """`[control]`."""

    group: str = "certeus-admin"
    readers: tuple[Name, ...] = ()
    operators: tuple[Name, ...] = ()
    admins: tuple[Name, ...] = ()


class LoggingSection(Section, frozen=True):
    """`[logging]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class SupervisorSection(Section, frozen=True):
    """`[supervisor]`."""

    drain_timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 10_000
    stop_timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 30_000


class MetricsSection(Section, frozen=True):
    """`[metrics]`."""

    listen: str = ""
    textfile: str = ""
    textfile_interval_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 500


class ThresholdsSection(Section, frozen=True):
    """`[thresholds]`."""

    cpu_warning: Ratio = 0.80
    cpu_critical: Ratio = 0.95
    memory_warning: Ratio = 0.75
    memory_critical: Ratio = 0.90
    latency_warning_ms: Milliseconds = 100
    latency_critical_ms: Milliseconds = 1000
    error_rate_warning: Ratio = 0.001
    error_rate_critical: Ratio = 0.01


class SlaSection(Section, frozen=True):
    """`[sla]`."""

    ack_p99_ms: Milliseconds = 100
    row_p99_ms: Milliseconds = 1000
    availability: Ratio = 0.999
    window_s: Annotated[int, msgspec.Meta(ge=60, le=604_800)] = 3600


class Config(Section, frozen=True):
    """The whole configuration."""

    worker: WorkerSection = WorkerSection()
    cpu: CpuSection = CpuSection()
    memory: MemorySection = MemorySection()
    ingest: tuple[IngestSection, ...] = (IngestSection(),)
    api: ApiSection = ApiSection()
    syslog: SyslogSection = SyslogSection()
    journal: JournalSection = JournalSection()
    limits: LimitsSection = LimitsSection()
    log: LogSection = LogSection()
    dedup: DedupSection = DedupSection()
    postgres: PostgresSection = PostgresSection()
    control: ControlSection = ControlSection()
    logging: LoggingSection = LoggingSection()
    supervisor: SupervisorSection = SupervisorSection()
    metrics: MetricsSection = MetricsSection()
    thresholds: ThresholdsSection = ThresholdsSection()
    sla: SlaSection = SlaSection()
