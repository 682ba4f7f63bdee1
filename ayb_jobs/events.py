"""What the parts report, as frozen values, and who listens. Only `logs` words them and only `metrics` counts them.

Whatever happens for every job is reported a batch at a time, so that reporting costs next to nothing per job.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.job import LeasedJob, RecoveredJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.model.schedules.fires import Advance


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsLeased:
    """The producer leased these jobs."""

    jobs: Sequence[LeasedJob]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSettled:
    """The completer settled these attempts."""

    settlements: Sequence[Settlement]
    now: float  # on the clock of `Settlement.started`


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesLost:
    """These jobs are no longer ours, or may soon not be.

    `during` is the write that found it: settle, release or extend; or it is watch, if extending was not possible.
    """

    job_ids: Sequence[str]
    during: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRefused:
    """The database refuses what is to be written about the end of this attempt. It is tried again after `retry_s`."""

    job: LeasedJob
    error: BaseException
    retry_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalRefused:
    """The database refuses to remove jobs as they complete. They are kept for a while, and left to the pruner."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionsDropped:
    """The database dropped the rows of so many attempts that ended, one of them of `job_id`. The jobs are settled."""

    count: int
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsReleased:
    """These jobs were given back unstarted, with their attempt."""

    job_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsCanceled:
    """These jobs were to be given back, and ended canceled instead, as was asked."""

    job_ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecovered:
    """A lost lease was found; the job was queued again, failed if its attempts or crashes were used up, or canceled."""

    job: RecoveredJob


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenResolved:
    """Jobs that waited for others were freed, or canceled since one of these failed or was canceled."""

    freed: Sequence[str]
    canceled: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesDone:
    """All members of these batches have ended. Their callbacks are enqueued."""

    batches: Sequence[EndedBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOverran:
    """A handler runs past its timeout; `abandoned` once it was told to stop and did not."""

    job: LeasedJob
    timeout_s: float
    abandoned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLoopBlocked:
    """One step of an asynchronous handler has taken `seconds` already, and goes on: all others wait for it.

    `job` is None if the step is of a task that a handler made; `name` is the task's, `where` the line of code.
    """

    job: LeasedJob | None
    name: str
    where: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsPruned:
    """Retention removed rows of a table."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsUnprunable:
    """The database refuses to remove these rows, such as for a foreign key of the application's."""

    table: str
    rows: int
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionDeferred:
    """Retention will remove jobs that were there before the database was adopted, in `begins_in_s` seconds."""

    state: str
    kept_h: int
    begins_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsUnclaimable:
    """Due jobs that this daemon cannot run: of types that it does not know, and of queues that it does not serve.

    Both are empty once there are none left.
    """

    counts: Mapping[str, int]
    queues: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFailed:
    """A loop's turn failed; it tries again after `retry_s`.

    Told when it begins to fail, when it fails in another way, and at growing intervals for as long as it goes on.
    `failures` turns in a row have failed, over `failing_s` seconds.
    """

    loop: str
    error: BaseException
    retry_s: float
    failures: int = 1
    failing_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRecovered:
    """A loop that failed works again, after `failures` failed turns in a row."""

    loop: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopErrorRepeated:
    """A failing loop failed again: counted, not told. It tries again after `retry_s`."""

    loop: str
    error: BaseException
    retry_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSetAside:
    """A loop cannot handle these rows. The others go on, and the first of these is tried again after `retry_s`.

    `error` is what the database says of the first; it says the like of the others.
    """

    part: str
    table: str
    row_ids: Sequence[str]
    error: str
    retry_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideFull:
    """A loop has set more rows aside than the `most` it remembers, and tries the oldest of them again sooner."""

    part: str
    table: str
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsUnavailable:
    """Notifications cannot reach this daemon, so that polling alone finds jobs."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsAvailable:
    """Notifications reach this daemon again."""


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
    """The daemon runs with `jobs.enabled = false`: no workers, no scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonDraining:
    """The daemon takes no more jobs, and ends when its handlers have."""

    reason: str
    running: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulesFired:
    """The scheduler advanced these schedules; `now` is the database's clock at that.

    `job_ids` are the jobs that it made, by the schedule's id and the nominal time.
    """

    advances: Sequence[Advance]
    job_ids: Mapping[tuple[str, datetime], str]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleBroken:
    """A schedule cannot fire, for the reason given, until it is edited. Told once."""

    schedule_id: str
    name: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRepaired:
    """A schedule that was broken was edited, and fires again."""

    schedule_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEnded:
    """A schedule has no further fire, since the last year that its expression names is over."""

    schedule_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePutRight:
    """A schedule's next run was later than its expression says, as after the clock was set back; it is earlier now."""

    schedule_id: str
    name: str
    was: datetime
    next_run_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """Answering a request failed for a reason that is no fault of the caller's."""

    request: str
    error: BaseException


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
class ApiStarted:
    """HTTP is served at `url`; if no token is configured, `authenticated` is false and every caller may do all."""

    url: str
    authenticated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiUnavailable:
    """HTTP is asked for, and what it needs is not installed; jobs run without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSteps:
    """What a person at a terminal can try once the daemon has started.

    `program` is as it was called, `dashboard` its address if it is served.
    """

    program: str
    job_type: str | None
    dashboard: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFailed:
    """HTTP could not be served, or ended by itself; jobs go on without it."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOverdue:
    """A schedule did not do what was expected of it: `reason` is broken, unserved, no_success or not_fired.

    Told once.
    """

    schedule_id: str
    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecovered:
    """A schedule that was overdue does again what is expected of it."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressGone:
    """The address of a job type (its host alone) answered that it is gone for good; the job was discarded."""

    job_type: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsUndelivered:
    """An address (its host alone) takes no alerts or pings, for the reason given. Told when that begins."""

    host: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsDelivered:
    """An address that took no alerts or pings takes them again."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingUnavailable:
    """Traces were asked for and cannot be made, for the reason given; jobs run without."""

    reason: str


# What comes in batches or by the second, of which listeners tell with counts.
Gathered = ActionTaken | JobsLeased | JobsSettled | JobsUnclaimable | LeasesLost | SchedulesFired
# What is rare, or comes one job at a time.
Single = (
    SettlementRefused
    | RemovalRefused
    | ExecutionsDropped
    | JobsReleased
    | JobsCanceled
    | JobRecovered
    | ChildrenResolved
    | BatchesDone
    | JobOverran
    | EventLoopBlocked
    | RowsPruned
    | RowsUnprunable
    | RetentionDeferred
    | LoopFailed
    | LoopRecovered
    | LoopErrorRepeated
    | RowsSetAside
    | AsideFull
    | NotificationsUnavailable
    | NotificationsAvailable
    | DaemonStarted
    | DaemonDisabled
    | DaemonDraining
    | DaemonReloaded
    | RestartNeeded
    | ReloadRefused
    | DaemonStopping
    | DaemonStopped
    | ScheduleBroken
    | ScheduleRepaired
    | SchedulePutRight
    | ScheduleEnded
    | RequestFailed
    | SettingsNoted
    | EmbeddedDatabaseUsed
    | SchemaMigrated
    | ApiStarted
    | ApiUnavailable
    | FirstSteps
    | ApiFailed
    | ScheduleOverdue
    | ScheduleRecovered
    | AddressGone
    | AlertsUndelivered
    | AlertsDelivered
    | TracingUnavailable
)
# Everything that parts report. A listener's `match` over it ends in `assert_never`.
Event = Gathered | Single
Emit = Callable[[Event], None]


class Events:
    """Hands each event to every listener. A listener that fails is left out of that event and never stops the work."""

    def __init__(self) -> None:
        self._listeners: list[Emit] = []
        self.listener_failures = 0

    def subscribe(self, listener: Emit) -> None:
        """Have `listener` called with every event from now on, in the thread that reports it."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell every listener of `event`."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - reporting must never stop what is reported
                self.listener_failures += 1
