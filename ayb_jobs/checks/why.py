"""Why jobs wait: one job, all of a queue, or all there are."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.model.job import Job
from ayb_jobs.model.waiting import Reason, Wait, WaitKind, no_reason, nobody_takes_jobs, refused
from ayb_jobs.model.words import count_words, quoted
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.waiting import Fleet, look_at_runners, why_waiting
from ayb_jobs.storage.fleet.waits import MOST_DISABLED, list_disabled, list_waiting
from ayb_jobs.storage.queue.jobs import get_job

# So many names stand in a sentence.
NAMED = 5


def why_job(conn: Connection, job_id: str) -> Wait:
    """Return why one job waits, or how things stand with it. Raises `NotFound`."""
    return _wait(conn, get_job(conn, job_id), jobs=1)


class Waits(NamedTuple):
    """What waits, as far as it was listed, and whether there is `more`."""

    first: Sequence[Wait]
    more: bool = False


def why_waits(conn: Connection, *, queue: str | None = None) -> Waits:
    """Return what waits in a queue, or in all, by type and queue, with the reason of the first job of each.

    If all are asked for, disabled schedules are told, too: jobs that somebody waits for are not there then. So is
    that no daemon takes jobs, or that the database refuses to have jobs end, if no job's reason says so.
    """
    fleet = look_at_runners(conn)
    waiting = list_waiting(conn, queue=queue)
    found = [
        _wait(conn, get_job(conn, each.first_id), jobs=each.jobs, fleet=fleet, cut=each.cut) for each in waiting.first
    ]
    if queue is not None:
        return Waits(found, waiting.more)
    told = {each.reason.kind for each in found}
    refusals = fleet.refusals
    if (refusals.no_room or refusals.ended) and WaitKind.REFUSED not in told:
        found.insert(0, Wait(reason=refused(refusals), jobs=0))
    if not fleet.runners and WaitKind.NO_DAEMON not in told:
        found.insert(0, Wait(reason=nobody_takes_jobs(fleet.draining, fleet.last_seen), jobs=0))
    disabled = list_disabled(conn)
    return Waits([*found, _disabled(disabled)] if disabled else found, waiting.more)


def _wait(conn: Connection, job: Job, *, jobs: int, fleet: Fleet | None = None, cut: bool = False) -> Wait:
    reason = why_waiting(conn, job, fleet) or no_reason(job)
    return Wait(reason=reason, jobs=jobs, cut=cut, job_id=job.id, type=job.type, queue=job.queue)


def _disabled(names: list[str]) -> Wait:
    told = ", ".join(map(quoted, names[:NAMED])) + (", …" if len(names) > NAMED else "")
    words = f"{count_words(len(names), 'schedule', most=MOST_DISABLED)} {'is' if len(names) == 1 else 'are'} disabled: {told}"
    reason = Reason(kind=WaitKind.SCHEDULES_DISABLED, words=words, remedy="ayb-jobs schedules enable NAME")
    return Wait(reason=reason, jobs=0)
