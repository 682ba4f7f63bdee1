"""Turns due schedules into jobs. Any number of schedulers may run: the row locks and the ledger decide."""

import time
from collections.abc import Callable, Sequence
from datetime import MAXYEAR, datetime, timedelta

from ayb_jobs import failpoints
from ayb_jobs.errors import InvalidInput
from ayb_jobs.events import Emit, ScheduleBroken, ScheduleEnded, ScheduleRepaired, SchedulesFired
from ayb_jobs.model.schedules.cron import Ended, read_cron
from ayb_jobs.model.schedules.fires import Advance, DueSchedule, Fire, advance, first_fire, passed_over
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.chores.clock_watch import ClockWatch
from ayb_jobs.runtime.chores.stranded import Stranded
from ayb_jobs.runtime.chores.transactions import Transactions
from ayb_jobs.runtime.narrowing import Patience, narrowed
from ayb_jobs.storage.schedules.fires import Fired, JobsDropped, Served, fire, lock_due
from ayb_jobs.storage.schedules.planning import (
    Ahead,
    Plan,
    Unplanned,
    find_broken,
    find_due,
    lock_unplanned,
    look_ahead,
    retry_broken,
    save_plans,
)

BATCH = 500
# One statement records no more fires than this (a long outage of frequent schedules), so that it stays short.
FIRES_PER_STATEMENT = 20_000
# The wait if another scheduler holds all that is due.
HELD_ELSEWHERE_S = 0.05
# A turn ends after this time, whatever is left: a loop that is silent for long looks stuck. Planning gives way to
# firing sooner: a row of plain SQL may have tens of thousands of fires behind it.
TURN_S = 20.0
PLAN_S = 1.0
NOT_WRITTEN = "its next run could not be written: a trigger of the application's may keep the row as it is"


class Scheduler:
    """Plans schedules that are new or edited, and fires those that are due.

    A schedule that cannot fire is marked and reported once; one that the database refuses to change is set aside. The
    others go on. `served` is what this daemon can run.
    """

    def __init__(
        self,
        database: Transactions,
        emit: Emit,
        *,
        tick_s: float,
        batch: int = BATCH,
        served: Served = Served(),  # noqa: B008 - a frozen value
    ) -> None:
        self._database = database
        self._tick_s = tick_s
        self._emit = emit
        self._batch = batch
        self._served = served
        self._to_retry: Sequence[str] | None = None
        self._aside = Aside(emit, part="scheduler", table="_ayb_job_schedules")
        self._retrying, self._planning, self._firing = Patience(), Patience(), Patience()
        self._clock_watch = ClockWatch(database, emit)
        self._stranded = Stranded(database, emit)

    def serve(self, served: Served) -> None:
        """Judge by this from the next turn on what the daemon can run."""
        self._served = served

    def tick(self) -> float:
        """Do all that is due, and return the seconds until the next schedule is, at most `tick_s`.

        The first turn tries broken schedules again: what broke them may have been this machine's time zone data.
        """
        self._retry_broken()
        ahead = self._look()
        if ahead.unplanned or _is_due(ahead):
            if self._plan_and_fire(ahead):
                return 0.0
            ahead = self._look()
        self._stranded.tick()
        if self._clock_watch.look():
            ahead = self._look()
        if self._clock_watch.hurries:
            return 0.0
        if ahead.due_in_s is None:
            return self._tick_s
        return min(self._tick_s, HELD_ELSEWHERE_S if _is_due(ahead) else ahead.due_in_s)

    def _retry_broken(self) -> None:
        """Have the schedules that were broken at the start planned again, each until the database lets us."""
        if self._to_retry is None:
            with self._database.transaction() as conn:
                self._to_retry = find_broken(conn)
        if not self._to_retry:
            return
        waiting = set(self._aside.ids())
        due = [id_ for id_ in self._to_retry if id_ not in waiting]
        written = narrowed(due, self._write_retries, blames=self._retrying.blames)
        self._retrying.begin_anew()
        kept = [id_ for ids in written.done for id_ in ids]
        self._aside.put_all(written.refused)
        self._aside.put_all([(id_, NOT_WRITTEN) for id_ in kept])
        undone = {*kept, *written.left, *(id_ for id_, _ in written.refused)}
        self._to_retry = [id_ for id_ in self._to_retry if id_ in waiting or id_ in undone]

    def _write_retries(self, ids: Sequence[str]) -> list[str]:
        with self._database.transaction() as conn:
            return retry_broken(conn, ids)

    def _look(self) -> Ahead:
        with self._database.transaction() as conn:
            ahead = look_ahead(conn, self._aside.ids())
        self._clock_watch.hear(ahead.clock_s)
        return ahead

    def _plan_and_fire(self, ahead: Ahead) -> bool:
        """Plan and fire by turns, batch by batch; tell whether there may be more once the turn's time is over."""
        end = time.monotonic() + TURN_S
        plans, fires = ahead.unplanned, True
        while plans or fires:
            if time.monotonic() >= end:
                return True
            plans = plans and self._narrowed(self._plan, self._planning)
            fires = self._narrowed(self._fire_what_is_kept, self._firing)
        return False

    def _narrowed(self, act: Callable[[Sequence[str] | None], bool], patience: Patience) -> bool:
        """Do a batch; if the database refuses it, do the schedules that it accepts, and set aside the others.

        `act` does one transaction, with the schedules of these ids, or with any. Tells whether there may be more.
        """
        try:
            may_be_more = act(None)
        except Exception as error:
            if not patience.blames(error):
                raise
        else:
            patience.begin_anew()
            return may_be_more
        with self._database.transaction() as conn:
            ids = find_due(conn, self._batch, aside=self._aside.ids())
        written = narrowed(ids, act, blames=patience.blames)
        patience.begin_anew()
        self._aside.put_all(written.refused)
        if written.left and not written.done:
            raise written.refused[-1].error
        return bool(written.left or written.refused) or any(written.done)

    def _plan(self, only: Sequence[str] | None) -> bool:
        """Plan one batch, or as much of it as a second allows; tell whether there may be more."""
        end = time.monotonic() + PLAN_S
        with self._database.transaction() as conn:
            unplanned = lock_unplanned(conn, self._batch, aside=self._aside.ids(), only=only)
            plans: list[Plan] = []
            for schedule in unplanned:
                plans.append(_planned(schedule))
                if time.monotonic() >= end:
                    break
            kept = save_plans(conn, plans) if plans else []
        self._aside.put_all([(id_, NOT_WRITTEN) for id_ in kept])
        for schedule, plan in zip(unplanned, plans, strict=False):
            if schedule.id not in kept:
                self._aside.forget(schedule.id)
                self._tell_planned(schedule, plan)
        return len(plans) < len(unplanned) or len(unplanned) == self._batch

    def _tell_planned(self, schedule: Unplanned, plan: Plan) -> None:
        if plan.error is not None:
            self._emit(ScheduleBroken(schedule_id=schedule.id, name=schedule.name, error=plan.error))
        elif plan.has_ended:
            self._emit(ScheduleEnded(schedule_id=schedule.id, name=schedule.name))
        elif schedule.was_broken and schedule.enabled:
            self._emit(ScheduleRepaired(schedule_id=schedule.id, name=schedule.name))

    def _fire_what_is_kept(self, only: Sequence[str] | None) -> bool:
        """Fire one batch, but set aside the schedules whose jobs a trigger drops; tell whether there may be more."""
        try:
            return self._fire(only)
        except JobsDropped as dropped:
            self._aside.put_all([(schedule_id, dropped) for schedule_id in dropped.schedule_ids])
            return True

    def _fire(self, only: Sequence[str] | None) -> bool:
        """Fire one batch; tell whether there may be more."""
        with self._database.transaction() as conn:
            due = lock_due(conn, self._batch, served=self._served, aside=self._aside.ids(), only=only)
            advances, broken = _decide(due)
            kept = save_plans(conn, [Plan(schedule.id, None, error) for schedule, error in broken]) if broken else []
            fired = fire(conn, advances) if advances else None
            if fired is not None:
                failpoints.reach(failpoints.FIRING)
        self._aside.put_all([(id_, NOT_WRITTEN) for id_ in kept])
        for schedule, error in broken:
            self._emit(ScheduleBroken(schedule_id=schedule.id, name=schedule.name, error=error))
        if fired is not None:
            failpoints.reach(failpoints.FIRED)
            self._tell_fired(advances, fired, due[0][1])
        left_over = len(advances) + len(broken) < len(due)
        return left_over or len(due) == self._batch or any(_has_more(each, due[0][1]) for each in advances)

    def _tell_fired(self, advances: Sequence[Advance], fired: Fired, now: datetime) -> None:
        done = [each for each in advances if each.schedule.id in fired.schedule_ids]
        self._emit(SchedulesFired(advances=done, job_ids=fired.job_ids, now=now))
        for each in done:
            self._aside.forget(each.schedule.id)
            if each.next_at is None:
                self._emit(ScheduleEnded(schedule_id=each.schedule.id, name=each.schedule.name))
        kept = [each.schedule.id for each in advances if each.schedule.id not in fired.schedule_ids]
        self._aside.put_all([(schedule_id, NOT_WRITTEN) for schedule_id in kept])


def _is_due(ahead: Ahead) -> bool:
    return ahead.due_in_s is not None and ahead.due_in_s <= 0


def _has_more(advance: Advance, now: datetime) -> bool:
    return advance.next_at is not None and advance.next_at <= now


# A next run that lies further back can only be a mistake.
_OLDEST_NEXT_RUN = timedelta(days=3652)


def _adopted(schedule: Unplanned) -> datetime | None:
    """Return the next run of a row that AYB wrote and that was never planned here: it is kept.

    AYB writes times to come. A next run from before the row was written is none: it would fire for the past.
    """
    next_run_at = schedule.next_run_at
    if schedule.planned is not None or next_run_at is None or next_run_at.year == MAXYEAR:
        return None
    if next_run_at < schedule.written_at:
        return None
    return next_run_at if next_run_at > schedule.now - _OLDEST_NEXT_RUN else None


def _planned(schedule: Unplanned) -> Plan:
    passed = _passed_over(schedule)
    if not schedule.enabled:
        return Plan(schedule.id, None, None, passed)
    try:
        read_cron(schedule.timing.cron, schedule.timing.timezone)
        next_run_at = _adopted(schedule) or first_fire(*schedule.timing, schedule.now, schedule.last_fire_at)
    except Ended:
        return Plan(schedule.id, None, None, passed, has_ended=True)
    except Exception as error:  # whatever is wrong with one schedule, the others go on
        return Plan(schedule.id, None, _wording(error), passed)
    return Plan(schedule.id, next_run_at, None, passed)


def _passed_over(schedule: Unplanned) -> list[Fire]:
    if schedule.planned is None or schedule.was_broken:
        return []
    try:
        return passed_over(
            schedule.planned, schedule.next_run_at, schedule.last_fire_at, schedule.now, since=schedule.since
        )
    except Exception:  # what cannot be reckoned is not recorded; planning finds out what is wrong
        return []


def _decide(due: list[tuple[DueSchedule, datetime]]) -> tuple[list[Advance], list[tuple[DueSchedule, str]]]:
    advances: list[Advance] = []
    broken: list[tuple[DueSchedule, str]] = []
    fires = 0
    for schedule, now in due:
        try:
            advances.append(advance(schedule, now))
        except Exception as error:  # whatever is wrong with one schedule, the others go on
            broken.append((schedule, _wording(error)))
            continue
        fires += len(advances[-1].fires)
        if fires >= FIRES_PER_STATEMENT:
            break
    return advances, broken


def _wording(error: Exception) -> str:
    return str(error) if isinstance(error, InvalidInput) else f"{type(error).__name__}: {error}"
