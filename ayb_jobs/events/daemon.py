"""How a daemon starts, reads its settings, serves and stops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsNoted:
    """The settings came in a way that an operator should know of."""

    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedDatabaseUsed:
    """No database is configured, so the embedded one is used; its data is kept in `home`."""

    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaMigrated:
    """The schema was brought up to date by these migrations. `notices` are for an operator to read."""

    migrations: Sequence[str]
    notices: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """The daemon's parts are running."""

    worker_id: str
    concurrency: int
    job_types: Sequence[str]
    queues: Sequence[str]
    scheduler: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonDisabled:
    """The daemon runs with `jobs.enabled = false`: no slots, no scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """What a person at a terminal can try once the daemon has started.

    `program` is as it was called, `dashboard` its address if it is served.
    """

    program: str
    job_type: str | None
    dashboard: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiStarted:
    """HTTP is served at `url`; if no token is configured, `authenticated` is false and every caller may do all."""

    url: str
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUnavailable:
    """HTTP is asked for, and what it needs is not installed; jobs run without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFailed:
    """HTTP could not be served, or ended by itself; jobs go on without it."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """Answering a request failed for a reason that is no fault of the caller's."""

    request: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingUnavailable:
    """Traces were asked for and cannot be made, for the reason given; jobs run without."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonReloaded:
    """The settings were read again. `changed` are those that are in force from now on, with their values."""

    changed: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartNeeded:
    """These settings differ from those in force, and need a restart."""

    settings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRefused:
    """The settings could not be read again, and nothing was changed."""

    problems: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonDraining:
    """The daemon takes no more jobs, and ends when its handlers have."""

    reason: str
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping:
    """The daemon was told to stop, and waits up to `timeout_s` for the handlers that run."""

    reason: str
    running: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped:
    """The daemon has stopped. `abandoned` handlers were still running, and `unsettled` endings could not be written.

    Their leases expire.
    """

    abandoned: int
    unsettled: int = 0


AboutTheDaemon = (
    SettingsNoted
    | EmbeddedDatabaseUsed
    | SchemaMigrated
    | DaemonStarted
    | DaemonDisabled
    | FirstSteps
    | ApiStarted
    | ApiUnavailable
    | ApiFailed
    | RequestFailed
    | TracingUnavailable
    | DaemonReloaded
    | RestartNeeded
    | ReloadRefused
    | DaemonDraining
    | DaemonStopping
    | DaemonStopped
)
