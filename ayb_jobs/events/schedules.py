"""What happens to schedules."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ayb_jobs.frozen import frozen
from ayb_jobs.model.schedules.fires import Advance


@frozen
class SchedulesFired:
    """The scheduler advanced these schedules; `now` is the database's clock at that.

    `job_ids` are the jobs that it made, by the schedule's id and the nominal time.
    """

    advances: Sequence[Advance]
    job_ids: Mapping[tuple[str, datetime], str]
    now: datetime


@frozen
class ScheduleBroken:
    """A schedule cannot fire, for the reason given, until it is edited. Told once."""

    schedule_id: str
    name: str
    error: str


@frozen
class ScheduleRepaired:
    """A schedule that was broken was edited, and fires again."""

    schedule_id: str
    name: str


@frozen
class ScheduleEnded:
    """A schedule has no further fire, since the last year that its expression names is over."""

    schedule_id: str
    name: str


@frozen
class SchedulePutRight:
    """A schedule's next run was later than its expression says, as after the clock was set back; it is earlier now."""

    schedule_id: str
    name: str
    was: datetime
    next_run_at: datetime


@frozen
class ScheduleOverdue:
    """A schedule did not do what was expected of it: `reason` is broken, unserved, no_success, not_fired or too_late.

    Told once.
    """

    schedule_id: str
    name: str
    reason: str
    message: str


@frozen
class ScheduleRecovered:
    """A schedule that was overdue does again what is expected of it."""

    name: str


# Those that are rare, or come one at a time.
AboutSchedules = (
    ScheduleBroken | ScheduleRepaired | ScheduleEnded | SchedulePutRight | ScheduleOverdue | ScheduleRecovered
)
