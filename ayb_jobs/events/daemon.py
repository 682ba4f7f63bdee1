"""How a daemon starts, reads its settings, serves and stops."""

from collections.abc import Mapping, Sequence

from ayb_jobs.frozen import frozen


@frozen
class SettingsNoted:
    """The settings came in a way that an operator should know of."""

    note: str


@frozen
class EmbeddedDatabaseUsed:
    """No database is configured, so the embedded one is used; its data is kept in `home`."""

    home: str


@frozen
class SchemaMigrated:
    """The schema was brought up to date by these migrations. `notices` are for an operator to read."""

    migrations: Sequence[str]
    notices: Sequence[str]


@frozen
class SchemaWaits:
    """The schema cannot be brought up to date yet, for this reason. It is tried again and again."""

    reason: str


@frozen
class DaemonStarted:
    """The daemon's parts are running."""

    worker_id: str
    concurrency: int
    job_types: Sequence[str]
    queues: Sequence[str]
    scheduler: bool


@frozen
class DaemonDisabled:
    """The daemon runs with `jobs.enabled = false`: no slots, no scheduler."""


@frozen
class FirstSteps:
    """What a person at a terminal can try once the daemon has started.

    `program` is as it was called, `dashboard` its address if it is served.
    """

    program: str
    job_type: str | None
    dashboard: str | None = None


@frozen
class ApiStarted:
    """HTTP is served at `url`; if no token is configured, `authenticated` is false and every caller may do all."""

    url: str
    authenticated: bool


@frozen
class ApiUnavailable:
    """HTTP is asked for, and what it needs is not installed; jobs run without it."""


@frozen
class ApiFailed:
    """HTTP could not be served, or ended by itself; jobs go on without it."""

    error: BaseException


@frozen
class RequestFailed:
    """Answering a request failed for a reason that is no fault of the caller's."""

    request: str
    error: BaseException


@frozen
class TracingUnavailable:
    """Traces were asked for and cannot be made, for the reason given; jobs run without."""

    reason: str


@frozen
class DaemonReloaded:
    """The settings were read again. `changed` are those that are in force from now on, with their values."""

    changed: Mapping[str, object]


@frozen
class RestartNeeded:
    """These settings differ from those in force, and need a restart."""

    settings: Sequence[str]


@frozen
class ReloadRefused:
    """The settings could not be read again, and nothing was changed."""

    problems: Sequence[str]


@frozen
class DaemonDraining:
    """The daemon takes no more jobs, and ends when its handlers have."""

    reason: str
    running: int


@frozen
class DaemonStopping:
    """The daemon was told to stop, and waits up to `timeout_s` for the handlers that run."""

    reason: str
    running: int
    timeout_s: float


@frozen
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
    | SchemaWaits
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
