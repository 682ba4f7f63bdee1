"""How things stand, on one screen: the sentence, what flows and how fast, who works, what fails, what fires next."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from ayb_jobs.checks.fleet import is_gone
from ayb_jobs.checks.verdict import COUNTED, Verdict, look_round
from ayb_jobs.config import Retention
from ayb_jobs.model.daemons import SeenDaemon
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.pauses import Pause, PauseKind
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import list_daemons
from ayb_jobs.storage.fleet.lifelines import HeardDaemon
from ayb_jobs.storage.fleet.pauses import list_pauses
from ayb_jobs.storage.queue.browsing import Counts, count_shown
from ayb_jobs.storage.queue.failures import GroupedFailures, group_failures
from ayb_jobs.storage.queue.minutes import Minute, list_minutes
from ayb_jobs.storage.queue.queues import QueueState, RunningJob, list_queues, list_running
from ayb_jobs.storage.schedules.coming import Coming, list_coming
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
# Full minutes of which the rates are shown.
MINUTES = 15
# A queue whose first job has been due for longer is late.
LATE_S = 60.0
# So many of each are read; a screen shows fewer.
MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue, with the live daemons that serve it, their slots, and its pause if it is paused."""

    state: QueueState
    daemons: int
    slots: int
    pause: Pause | None

    @property
    def kind(self) -> str:
        """How the queue stands: `paused`, `unknown` if nobody serves it, `late`, or `alive`."""
        if self.pause:
            return "paused"
        if not self.daemons:
            return "unknown"
        return "late" if (self.state.oldest_wait_s or 0) > LATE_S else "alive"

    @property
    def word(self) -> str:
        """How the queue stands, for people."""
        return {"unknown": "nobody serves it", "alive": "flows"}.get(self.kind, self.kind)


class QueueViews(NamedTuple):
    """The first queues by name, and whether there are `more`."""

    first: Sequence[QueueView]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What stands below the sentence. `minutes` are the last full ones, the earliest first, also empty ones.

    Of what runs, is overdue or is coming, up to `MOST` are there. `gone` are the ids of those of the daemons that have
    most likely ended without a word.
    """

    counts: Counts
    minutes: Sequence[Minute]
    queues: QueueViews
    daemons: Sequence[SeenDaemon]
    running: Sequence[RunningJob]
    failures: GroupedFailures
    overdue: Sequence[Overdue]
    coming: Sequence[Coming]
    gone: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """How things stand at one moment of the database's clock. No details if the database is unfit."""

    at: datetime
    verdict: Verdict
    details: Details | None


def glance(conn: Connection, retention: Retention) -> Glance:
    """Read all of it, as of one moment."""
    with conn.transaction():
        look = look_round(conn, retention)
        return Glance(at=now(conn), verdict=look.verdict, details=None if look.unfit else _details(conn, look.fleet))


def _details(conn: Connection, fleet: Sequence[HeardDaemon]) -> Details:
    gone = {daemon.id for daemon in fleet if is_gone(daemon)}
    daemons = list_daemons(conn)
    return Details(
        gone=gone,
        counts=count_shown(conn, most=COUNTED),
        minutes=_full_minutes(conn, now(conn)),
        queues=view_queues(conn, [each for each in daemons if each.daemon.id not in gone]),
        daemons=daemons,
        running=list_running(conn, limit=MOST),
        failures=group_failures(conn, Filter(), span=HOUR),
        overdue=list_overdue(conn, limit=MOST),
        coming=list_coming(conn, limit=MOST),
    )


def view_queues(conn: Connection, daemons: Sequence[SeenDaemon]) -> QueueViews:
    """Return the queues that hold jobs, that a daemon serves, or that are paused, by name."""
    pauses = {each.name: each for each in list_pauses(conn) if each.kind is PauseKind.QUEUE}
    known = sorted({*(queue for seen in daemons for queue in seen.daemon.queues), *pauses})
    found = list_queues(conn, served=known)
    return QueueViews([_view(state, daemons, pauses.get(state.queue)) for state in found.first], found.more)


def _view(state: QueueState, daemons: Sequence[SeenDaemon], pause: Pause | None) -> QueueView:
    serving = [each.daemon for each in daemons if state.queue in each.daemon.queues and each.drain_requested_at is None]
    return QueueView(state=state, daemons=len(serving), slots=sum(each.slots for each in serving), pause=pause)


def _full_minutes(conn: Connection, at: datetime) -> list[Minute]:
    """Return what ended in each of the last full minutes."""
    ended = {each.at: each for each in list_minutes(conn, span=(MINUTES + 1) * MINUTE, step=MINUTE)}
    this = at.replace(second=0, microsecond=0)
    minutes = [this - number * MINUTE for number in range(MINUTES, 0, -1)]
    return [ended.get(each) or Minute(each, 0, 0, 0, 0) for each in minutes]
