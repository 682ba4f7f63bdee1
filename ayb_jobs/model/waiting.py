"""Why a job waits: each reason in one function, asked in the order of `REASONS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime
from enum import StrEnum

from ayb_jobs.model.daemons import JOBS
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import Outcome
from ayb_jobs.model.names import did_you_mean
from ayb_jobs.model.pauses import resume_command
from ayb_jobs.model.refusals import DISK_FULL, MAKE_ROOM, EndedJob, Refusals
from ayb_jobs.model.surroundings import LastAttempt, Runner, Surroundings
from ayb_jobs.model.words import count_words, span_words

# A statement under way holds a row for less than this; who holds it longer keeps the job waiting.
LOCKED_S = 2.0
MOST_ERROR = 200
WHAT_IT_SAYS = "See to what the database says, such as a trigger."


class WaitKind(StrEnum):
    """What keeps a job, by a word for programs. The last three keep none."""

    BLOCKED = "blocked"
    DELAYED = "delayed"
    RETRY = "retry"
    SNOOZED = "snoozed"
    PAUSED = "paused"
    LIMITED = "limited"
    NO_DAEMON = "no_daemon"
    UNSERVED = "unserved"
    UNKNOWN_TYPE = "unknown_type"
    REFUSED = "refused"
    SET_ASIDE = "set_aside"
    LOCKED = "locked"
    BUSY = "busy"
    BEHIND = "behind"
    DAEMON_GONE = "daemon_gone"
    LEASE_EXPIRED = "lease_expired"
    SCHEDULES_DISABLED = "schedules_disabled"
    ABOUT_TO_START = "about_to_start"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a job waits: a word for programs, a sentence without its full stop, and what helps, if something does."""

    kind: WaitKind
    words: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How things stand with a job, or with many of one type in one queue, of which `job_id` is the first.

    If it is `cut`, not all that wait were looked at: there are at least so many `jobs`.

    What is about no job, such as schedules that are disabled, has no id.
    """

    reason: Reason
    jobs: int = 1
    cut: bool = False
    job_id: str | None = None
    type: str | None = None
    queue: str | None = None


def blocked(_: Job, around: Surroundings) -> Reason | None:
    """Find that it depends on jobs that have not ended as its rules want."""
    if around.blocked is None:
        return None
    return Reason(kind=WaitKind.BLOCKED, words=around.blocked.words, remedy=around.blocked.remedy)


def delayed(job: Job, around: Surroundings) -> Reason | None:
    """Find that a job is due only later, and why: put off, to be tried again, or enqueued so."""
    if around.is_due:
        return None
    if job.schedule_id is not None and job.run_at.year == MAXYEAR:
        words = "it waits until the job before it, which is to end canceled, has ended"
        return Reason(kind=WaitKind.DELAYED, words=words)
    at = instant_text(job.run_at)
    match around.last:
        case None:
            return Reason(kind=WaitKind.DELAYED, words=f"it is due only at {at}")
        case LastAttempt(outcome=Outcome.SNOOZED):
            return Reason(kind=WaitKind.SNOOZED, words=f"its handler put it off; it is due only at {at}")
        case LastAttempt(outcome=Outcome.LOST, number=number):
            ended = f"attempt {number} lost its daemon"
        case LastAttempt(outcome=Outcome.TIMED_OUT, number=number):
            ended = f"attempt {number} ran past its timeout"
        case LastAttempt(number=number, error=error):
            line = first_line(error or "")
            ended = f"attempt {number} failed{f': {line}' if line else ''}"
    words = f"it is due only at {at}, for attempt {job.attempts + 1} of {job.max_attempts}: {ended}"
    return Reason(kind=WaitKind.RETRY, words=words)


def paused(_: Job, around: Surroundings) -> Reason | None:
    """Find that its queue, its type or its key is paused."""
    if around.pause is None:
        return None
    remedy = resume_command(around.pause.kind, around.pause.name)
    return Reason(kind=WaitKind.PAUSED, words=around.pause.words, remedy=remedy)


def unserved(job: Job, around: Surroundings) -> Reason | None:
    """Find that no live daemon can run it."""
    queues = {queue for runner in around.runners for queue in runner.queues}
    types = {name for runner in around.runners for name in runner.types}
    if not around.runners:
        return nobody_takes_jobs(around.draining, around.last_seen)
    beside = f"; {_drain_words(around.draining)}" if around.draining else ""
    if job.queue not in queues:
        words = f"no live daemon serves its queue {job.queue}; served are {', '.join(sorted(queues))}{beside}"
        return Reason(kind=WaitKind.UNSERVED, words=words, remedy=f"Add {job.queue} to jobs.queues of a daemon")
    if job.type not in types:
        words = f"no live daemon knows its type {job.type}{did_you_mean(job.type, types)}{beside}"
        remedy = f"Start a daemon whose handlers include it, or: ayb-jobs jobs cancel {job.id}"
        return Reason(kind=WaitKind.UNKNOWN_TYPE, words=words, remedy=remedy)
    if not able(job, around.runners):
        words = f"no live daemon that knows its type serves its queue {job.queue}{beside}"
        return Reason(kind=WaitKind.UNSERVED, words=words)
    return None


def nobody_takes_jobs(draining: int, last_seen: datetime | None) -> Reason:
    """Say that no daemon takes jobs: none is alive, or each that is drains."""
    words = (
        f"no daemon takes jobs: {_drain_words(draining)}"
        if draining
        else f"no daemon is alive; {last_heard(last_seen)}"
    )
    return Reason(kind=WaitKind.NO_DAEMON, words=words, remedy="ayb-jobs run")


def _drain_words(draining: int) -> str:
    return (
        f"{count_words(draining, 'daemon drains', 'daemons drain')}, and {'takes' if draining == 1 else 'take'} no more"
    )


def limited(job: Job, around: Surroundings) -> Reason | None:
    """Find that its limit has no place for it, that a rate allows no start yet, or that its limit was removed."""
    if around.under is None:
        return None if job.limit is None else _removed(job.limit)
    limit, key = around.under.limit, around.under.key
    new, whose = limit.new, f"its key {key}" if key else "jobs without a key"
    why = []
    if new.max_running is not None and limit.running >= new.max_running:
        why.append(f"{limit.running} run of {new.max_running} at once")
    if new.key_max_running is not None and around.under.key_running >= new.key_max_running:
        why.append(f"{around.under.key_running} run of {new.key_max_running} at once for {whose}")
    if limit.tokens == 0:
        why.append(f"its rate of {new.rate} allows no start yet")
    if not around.under.key_may_start:
        why.append(f"the rate of {new.key_rate} for {whose} allows no start yet")
    if not why:
        return None
    found = Reason(
        kind=WaitKind.LIMITED,
        words=f"it waits under the limit {new.name}: {'; '.join(why)}",
        remedy="ayb-jobs limits list",
    )
    return _unless_ended(found, around.under.filled_by(around.refusals.ended), around)


def _removed(limit: str) -> Reason:
    words = f"its limit {limit} was removed, and no daemon has freed it yet; workers in other languages do not"
    return Reason(kind=WaitKind.LIMITED, words=words)


def no_room(_: Job, around: Surroundings) -> Reason | None:
    """Find that a disk of the database is full: nothing else that ends would have it start."""
    return refused(around.refusals) if around.refusals.no_room else None


def refused(refusals: Refusals) -> Reason:
    """Say that the database refuses what daemons have to write, and what helps."""
    remedy = MAKE_ROOM if refusals.no_room else WHAT_IT_SAYS
    return Reason(kind=WaitKind.REFUSED, words=refused_words(refusals), remedy=remedy)


def refused_words(refusals: Refusals) -> str:
    """Say what the database refuses, and what it says."""
    if refusals.no_room:
        return f"{DISK_FULL}: it refuses {refusals.words}"
    return f"the database refuses {refusals.words}: {first_line(refusals.first_error)}"


def set_aside(_: Job, around: Surroundings) -> Reason | None:
    """Find that a daemon or a worker could not handle its row, and tries it again from time to time."""
    if around.aside is None:
        return None
    said = first_line(around.aside.error)
    words = f"{around.aside.who} set it aside, and tries it again from time to time: {said}"
    return Reason(kind=WaitKind.SET_ASIDE, words=words, remedy=WHAT_IT_SAYS)


def locked(_: Job, around: Surroundings) -> Reason | None:
    """Find that a session has locked its row."""
    if around.locked_by is None or around.due_for_s < LOCKED_S:
        return None
    return Reason(
        kind=WaitKind.LOCKED,
        words=f"the session with pid {around.locked_by} has locked its row",
        remedy=f"End its transaction, or: SELECT pg_terminate_backend({around.locked_by})",
    )


def behind(job: Job, around: Surroundings) -> Reason | None:
    """Find that others are leased first, or that no slot is free."""
    runners = able(job, around.runners)
    full = _full_words(job, runners)
    ahead = ahead_words(around.ahead, more=around.more_ahead) if around.ahead else ""
    pace = ""
    if ahead and full and around.ended:
        pace = f"about {span_words(around.ahead / around.ended * 60)} at the present pace"
    words = "; ".join(filter(None, (ahead, full, pace)))
    if full:
        keep = [each for each in around.refusals.ended if any(one.is_kept_full_by(each, job) for one in runners)]
        return _unless_ended(Reason(kind=WaitKind.BUSY, words=words), keep, around)
    if JOBS in around.refusals.cut:
        may_be = f"the database refuses to change {around.refusals.count_of(JOBS)}, and it may be one of them"
        return Reason(kind=WaitKind.SET_ASIDE, words="; ".join(filter(None, (may_be, ahead))), remedy=WHAT_IT_SAYS)
    return Reason(kind=WaitKind.BEHIND, words=words) if ahead else None


def _unless_ended(found: Reason, ended: Sequence[EndedJob], around: Surroundings) -> Reason:
    """Return what was found, or what the database refuses if that keeps jobs in their places that have `ended`."""
    if not ended:
        return found
    words = f"{refused_words(around.refusals)}; {found.words}"
    return Reason(kind=WaitKind.REFUSED, words=words, remedy=WHAT_IT_SAYS)


def _full_words(job: Job, runners: Sequence[Runner]) -> str:
    places = [runner.places(job.type) for runner in runners]
    slots, busy = sum(each.slots for each in places), sum(each.busy for each in places)
    can = "of the daemon that can run it" if len(places) == 1 else "of the daemons that can run it"
    if busy >= slots > 0:
        return f"{all_slots(slots, places[0].kind, can)} busy"
    if runners and all(runner.is_full(job.type, job.queue) for runner in runners):
        most = count_words(sum(runner.most(job.type, job.queue) for runner in runners), "slot")
        return f"its queue {job.queue} may fill {most} {can}, and none is free"
    return ""


# What keeps a queued job is asked in this order, and the first answer is the reason. To add one: a field of
# `Surroundings`, filled in by `storage/fleet/waiting.py`, and a function here.
REASONS: Sequence[Callable[[Job, Surroundings], Reason | None]] = (
    blocked, delayed, paused, unserved, no_room, limited, set_aside, locked, behind,
)  # fmt: skip


def wait_reason(job: Job, around: Surroundings) -> Reason | None:
    """Return why a queued job waits; None where it is about to be leased, as far as can be seen."""
    return next((reason for ask in REASONS if (reason := ask(job, around)) is not None), None)


def no_reason(job: Job) -> Reason:
    """Say how things stand with a job that nothing keeps waiting."""
    match job.state:
        case JobState.QUEUED:
            words = "nothing keeps it, as far as can be seen; a daemon is about to lease it"
            return Reason(kind=WaitKind.ABOUT_TO_START, words=words)
        case JobState.RUNNING:
            words = f"it runs on {job.worker_id or 'an unknown daemon'}"
            canceling = "" if job.cancel_requested_at is None else ", and is to end canceled when its handler has ended"
            return Reason(kind=WaitKind.RUNNING, words=f"{words}{canceling}")
        case JobState.FAILED:
            words = "it failed, and nothing runs it again by itself"
            return Reason(kind=WaitKind.ENDED, words=words, remedy=f"ayb-jobs jobs retry {job.id}")
        case JobState.COMPLETED | JobState.CANCELED:
            return Reason(kind=WaitKind.ENDED, words=f"it is {job.state}")


def able(job: Job, runners: Sequence[Runner]) -> list[Runner]:
    """Return the daemons that can run a job."""
    return [runner for runner in runners if job.queue in runner.queues and job.type in runner.types]


def first_line(error: str) -> str:
    """Return the first line of an error, not too long."""
    return " ".join(error.strip().partition("\n")[0].split())[:MOST_ERROR]


def last_heard(last_seen: datetime | None) -> str:
    """Say when a daemon was last heard of."""
    if last_seen is None:
        return "none was heard of within a day"
    return f"the last was heard of at {instant_text(last_seen)}"


def all_slots(slots: int, kind: str, which: str) -> str:
    """Begin a sentence about all slots of a kind, such as `all 3 slots for isolated handlers of a daemon are`."""
    meant = f" for {kind} handlers" if kind != "thread" else ""
    return f"the only slot{meant} {which} is" if slots == 1 else f"all {slots:,} slots{meant} {which} are"


def ahead_words(ahead: int, *, more: bool = False) -> str:
    """Say how many due jobs come first, and whether there may be more."""
    jobs = count_words(ahead, "due job is", "due jobs are")
    return f"{'at least ' if more else ''}{jobs} ahead of it"
