"""What becomes of a schedule's due fires: the policies for missed fires and for overlaps, as pure code."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import NamedTuple

from ayb_jobs.errors import InvalidInput
from ayb_jobs.frozen import frozen
from ayb_jobs.model.schedules.cron import Ended, fires, next_fire, next_fire_beside
from ayb_jobs.model.schedules.fields import MAX_CATCHUP, Catchup, Overlap

# A fire made within this time is on time.
ON_TIME = timedelta(seconds=5)
# A later one has been missed if the next is due as well, or if this time has passed.
MISSED = timedelta(seconds=60)
# Fires of one schedule that are decided in one transaction. The rest follow in the next.
MAX_FIRES = 10_000
# Fires of one schedule that an edit may pass over, so that an edit takes a few seconds at the very most.
MAX_PASSED_OVER = 50_000
# Fires older than this are left out of the ledger, unless none is younger: nobody asks for them, and there may be
# millions.
MAX_AGE = timedelta(days=31)


class FireOutcome(StrEnum):
    """What became of a nominal fire.

    `enqueued` on time, `late` by seconds, `caught_up` after it had been missed; `coalesced` into a later fire's job;
    `skipped` for a reason.
    """

    ENQUEUED = "enqueued"
    LATE = "late"
    CAUGHT_UP = "caught_up"
    COALESCED = "coalesced"
    SKIPPED = "skipped"

    @property
    def makes_job(self) -> bool:
        """Whether a job stands for this very fire."""
        return self in (FireOutcome.ENQUEUED, FireOutcome.LATE, FireOutcome.CAUGHT_UP)


class Timing(NamedTuple):
    """What decides when a schedule fires."""

    cron: str
    timezone: str
    dst: str


class Fire(NamedTuple):
    """One nominal fire, and what became of it. `reason` is set for skipped ones."""

    fire_at: datetime
    outcome: FireOutcome
    reason: str | None = None


@frozen
class DueSchedule:
    """A due schedule as the scheduler holds it. `due_at` is its `next_run_at`; the rest is as in `Schedule`.

    `queued` and `running` tell whether a job of it waits and whether one runs. `starved`: one has waited for over a
    minute, and no live daemon can run it.
    """

    id: str
    name: str
    cron: str
    timezone: str
    dst: str
    due_at: datetime
    last_fire_at: datetime | None
    catchup: str
    catchup_max: int
    catchup_window_s: float
    overlap: str
    jitter_s: float
    queued: bool
    running: bool
    starved: bool = False


@frozen
class Advance:
    """What a scheduler's turn does to one schedule: the fires it decides, and the fire that is next.

    `next_at` still lies in the past if more fires were missed than one transaction decides. It is None if no fire is
    left: the schedule has ended.
    """

    schedule: DueSchedule
    fires: Sequence[Fire]
    next_at: datetime | None
    cancels_running: bool


def advance(schedule: DueSchedule, now: datetime) -> Advance:
    """Decide every fire of a schedule that is due at `now`. Raises `InvalidInput` if its timing cannot be read."""
    due, next_at, is_all = due_fires(schedule, now)
    decided = _catch_up(schedule, due, now) if is_all else _give_up(schedule, due)
    decided = _without_overlaps(schedule, decided)
    cancels = schedule.overlap == Overlap.CANCEL_RUNNING and any(fire.outcome.makes_job for fire in decided)
    return Advance(schedule=schedule, fires=decided, next_at=next_at, cancels_running=cancels)


def due_fires(schedule: DueSchedule, now: datetime) -> tuple[list[datetime], datetime | None, bool]:
    """Return the nominal fires that are due, the one after them (None if none is left), and whether those are all.

    If they are not all, at least `MAX_CATCHUP` more are due, so that no bound on catching up reaches back to these.
    """
    timing = Timing(schedule.cron, schedule.timezone, schedule.dst)
    due: list[datetime] = []
    try:
        first = _first_undecided(timing, schedule.due_at, schedule.last_fire_at, now)
        if first > now:
            return [], first, True
        due.append(first)
        for fire in fires(timing.cron, timing.timezone, first, timing.dst):
            if fire > now:
                return due, fire, True
            if len(due) == MAX_FIRES:
                break
            due.append(fire)
    except Ended:
        return due, None, True
    kept = MAX_FIRES - MAX_CATCHUP
    return due[:kept], due[kept], False


def passed_over(
    timing: Timing,
    due_at: datetime | None,
    last_fire_at: datetime | None,
    now: datetime,
    *,
    since: datetime | None = None,
) -> list[Fire]:
    """Return the fires that were due and undecided when a schedule was edited or disabled; they are skipped.

    `since` is given where the edit may have overwritten `due_at`: all fires up to then are decided, or none of the
    timing's. Where there are more than `MAX_PASSED_OVER`, these are the earliest.
    """
    try:
        if since is not None:
            undecided = next_fire(timing.cron, timing.timezone, since, timing.dst)
            due_at = undecided if due_at is None else min(due_at, undecided)
        if due_at is None:
            return []
        first = _first_undecided(timing, due_at, last_fire_at, now)
        due = _due(timing, first, now) if first <= now else ()
        return [_skipped(fire, "edited or disabled before it was made") for fire in islice(due, MAX_PASSED_OVER)]
    except InvalidInput:
        return []


def _first_undecided(timing: Timing, due_at: datetime, last_fire_at: datetime | None, now: datetime) -> datetime:
    first, age = due_at, MAX_AGE
    while now - first > age:  # a yearly fire may have been missed for months, and is missed all the same
        with suppress(Ended):
            recent = next_fire_beside(timing.cron, timing.timezone, due_at, now - age, timing.dst)
            if recent <= now:
                first = recent
                break
        age *= 2
    if last_fire_at is not None and first <= last_fire_at:
        first = next_fire(timing.cron, timing.timezone, last_fire_at, timing.dst)
    return first


def _due(timing: Timing, first: datetime, now: datetime) -> Iterator[datetime]:
    yield first
    with suppress(Ended):
        yield from takewhile(lambda fire: fire <= now, fires(timing.cron, timing.timezone, first, timing.dst))


def first_fire(cron: str, timezone: str, dst: str, now: datetime, last_fire_at: datetime | None) -> datetime:
    """Return the first fire of a schedule that is new, changed or enabled again: none in the past, none twice.

    Raises `Ended` if no fire is left.
    """
    after = now if last_fire_at is None else max(now, last_fire_at)
    return next_fire(cron, timezone, after, dst)


# A nominal time so far ahead of the clock was not fired by a clock that is a little fast, as another server's may be.
LEAP = timedelta(minutes=1)


def expected_fire(timing: Timing, now: datetime, last_fire_at: datetime | None) -> datetime:
    """Return the latest that a schedule's next run may be: the first fire after `now` and after the last one.

    A last fire far ahead of `now` counts for nothing: the clock was set back since. Raises `Ended` if no fire is left.
    """
    return first_fire(*timing, now, honest_fire(last_fire_at, now))


def honest_fire(last_fire_at: datetime | None, now: datetime) -> datetime | None:
    """Return a last fire that the clock of `now` may have seen; None if it lies far ahead."""
    return last_fire_at if last_fire_at is not None and last_fire_at <= now + LEAP else None


def jitter(schedule_id: str, fire_at: datetime, jitter_s: float) -> timedelta:
    """Return how far a fire's job is put off, from 0 to `jitter_s`; the same however often it is asked."""
    if jitter_s <= 0:
        return timedelta(0)
    digest = hashlib.blake2b(f"{schedule_id} {fire_at.timestamp():.6f}".encode(), digest_size=8).digest()
    return timedelta(seconds=jitter_s * int.from_bytes(digest) / 2**64)


def _catch_up(schedule: DueSchedule, due: Sequence[datetime], now: datetime) -> list[Fire]:
    missed = [now - fire > MISSED or (now - fire > ON_TIME and fire != due[-1]) for fire in due]
    in_time = [
        Fire(fire, FireOutcome.ENQUEUED if now - fire <= ON_TIME else FireOutcome.LATE)
        for fire, was_missed in zip(due, missed, strict=True)
        if not was_missed
    ]
    late = [fire for fire, was_missed in zip(due, missed, strict=True) if was_missed]
    if not late:
        return in_time
    match Catchup(schedule.catchup):
        case Catchup.LATEST:
            return [*(Fire(fire, FireOutcome.COALESCED) for fire in due[:-1]), Fire(due[-1], FireOutcome.CAUGHT_UP)]
        case Catchup.ALL:
            return [*_bounded(schedule, late, now), *in_time]
        case Catchup.SKIP:
            return [*(_skipped(fire, "missed") for fire in late), *in_time]


def _bounded(schedule: DueSchedule, missed: Sequence[datetime], now: datetime) -> list[Fire]:
    """Catch up with the latest missed fires, within the schedule's window and count."""
    oldest = now - timedelta(seconds=min(schedule.catchup_window_s, MAX_AGE.total_seconds()))
    beyond = len(missed) - schedule.catchup_max
    return [
        _skipped(fire, "outside the catch-up window")
        if fire < oldest
        else _skipped(fire, "more were missed than are caught up")
        if place < beyond
        else Fire(fire, FireOutcome.CAUGHT_UP)
        for place, fire in enumerate(missed)
    ]


def _give_up(schedule: DueSchedule, due: Sequence[datetime]) -> list[Fire]:
    """Decide fires after which so many more are due that none of these can make a job."""
    match Catchup(schedule.catchup):
        case Catchup.LATEST:
            return [Fire(fire, FireOutcome.COALESCED) for fire in due]
        case Catchup.ALL:
            return [_skipped(fire, "more were missed than are caught up") for fire in due]
        case Catchup.SKIP:
            return [_skipped(fire, "missed") for fire in due]


def _without_overlaps(schedule: DueSchedule, decided: Sequence[Fire]) -> list[Fire]:
    """Skip the fires that the schedule's overlap rule forbids, given its other jobs and those made here."""
    match Overlap(schedule.overlap):
        case Overlap.ALLOW if schedule.starved:
            return _at_most(0, decided, "no live daemon can run its jobs, and one waits")
        case Overlap.ALLOW:
            return list(decided)
        case Overlap.SKIP:
            reason = "an earlier job has not ended"
            return _at_most(0 if schedule.queued or schedule.running else 1, decided, reason)
        case Overlap.QUEUE_ONE:
            return _at_most(0 if schedule.queued else 1, decided, "an earlier job is still waiting")
        case Overlap.CANCEL_RUNNING:
            return _newest_only(decided)


def _at_most(room: int, decided: Sequence[Fire], reason: str) -> list[Fire]:
    kept: list[Fire] = []
    for fire in decided:
        if fire.outcome.makes_job:
            kept.append(fire if room else _skipped(fire.fire_at, reason))
            room = max(0, room - 1)
        else:
            kept.append(fire)
    return kept


def _newest_only(decided: Sequence[Fire]) -> list[Fire]:
    newest = max((fire.fire_at for fire in decided if fire.outcome.makes_job), default=None)
    return [
        _skipped(fire.fire_at, "replaced by a later fire")
        if fire.outcome.makes_job and fire.fire_at != newest
        else fire
        for fire in decided
    ]


def _skipped(fire_at: datetime, reason: str) -> Fire:
    return Fire(fire_at, FireOutcome.SKIPPED, reason)
