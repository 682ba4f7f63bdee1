"""Whatever happens in whatever order: one outcome for each nominal fire, no job twice, and the policies kept.

Time passes by moving everything in the database into the past, by multiples of five minutes, to which the expressions
used here are indifferent. Instants in the model are of that virtual time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Self

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from ayb_jobs.model.schedules.cron import fires
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.schedules.schedules import create_schedule, get_schedule, update_schedule

Conn = psycopg.Connection[TupleRow]

CATCHUP_MAX = 7
NOTHING = timedelta(0)


class Crash(Exception):
    """The scheduler's process is gone."""


class Crashing:
    """Transactions in which the process dies before a statement, or instead of the commit."""

    def __init__(self, database: Database, statements: int) -> None:
        self._database = database
        self._left = statements

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        with self._database.transaction() as conn:
            yield self._Executing(self, conn)
            self.count()

    def count(self) -> None:
        if self._left == 0:
            raise Crash
        self._left -= 1

    class _Executing:
        """A connection, or a cursor of one, whose statements are counted."""

        def __init__(self, crashing: "Crashing", real: Any) -> None:
            self._crashing = crashing
            self._real = real

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._real.close()

        def cursor(self, **options: Any) -> "Crashing._Executing":
            return Crashing._Executing(self._crashing, self._real.cursor(**options))

        def execute(self, *args: Any, **options: Any) -> Any:
            self._crashing.count()
            return self._real.execute(*args, **options)


class World:
    """A schedule in a database, and what ought to have become of it."""

    def __init__(self, conn: Conn, databases: list[Database], catchup: str, overlap: str) -> None:
        self.conn = conn
        self.databases = databases
        self.catchup = catchup
        self.overlap = overlap
        self.passed = NOTHING
        conn.execute("DELETE FROM _ayb_jobs")
        conn.execute("DELETE FROM _ayb_job_schedules")
        create_schedule(
            conn,
            NewSchedule(
                name="s", job_type="t", cron="* * * * *", catchup=catchup, catchup_max=CATCHUP_MAX, overlap=overlap
            ),
        )
        # What must be in the ledger, and what may be: it fell due while the schedule was being edited.
        self.required: set[datetime] = set()
        self.optional: set[datetime] = set()
        self.next: datetime | None = None
        self.cron = ""
        self.enabled = True
        self.begin()

    def now(self) -> datetime:
        row = self.conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        instant: datetime = row[0]
        return instant + self.passed

    def begin(self) -> None:
        """Expect the fires from the schedule's next run on."""
        schedule = get_schedule(self.conn, "s")
        self.cron = schedule.cron
        self.enabled = schedule.enabled
        self.next = None if schedule.next_run_at is None else schedule.next_run_at + self.passed

    def expect_until(self, sure: datetime, possible: datetime) -> None:
        """Expect the fires up to an instant that lies between the two."""
        if self.next is None:
            return
        found = [self.next, *takewhile(lambda fire: fire <= possible, fires(self.cron, "UTC", self.next))]
        # One that is disabled keeps its next run until a scheduler sees that it is over, or plain SQL enables it again.
        self.required.update(fire for fire in found if fire <= sure and self.enabled)
        self.optional.update(fire for fire in found if fire <= possible and not (fire <= sure and self.enabled))

    def ledger(self) -> dict[datetime, tuple[str, str | None]]:
        rows = self.conn.execute("SELECT fire_at, outcome, job_id::text FROM _ayb_job_fires").fetchall()
        return {fire_at + self.passed: (outcome, job_id) for fire_at, outcome, job_id in rows}

    def do(self, action: tuple[Any, ...]) -> None:
        name, *arguments = action
        getattr(self, f"do_{name}")(*arguments)

    def do_pass(self, minutes: int) -> None:
        for statement in (
            "UPDATE _ayb_job_schedules SET next_run_at = next_run_at - %(by)s, last_fire_at = last_fire_at - %(by)s",
            "UPDATE _ayb_job_schedules SET watched_since = watched_since - %(by)s",
            "UPDATE _ayb_jobs SET scheduled_for = scheduled_for - %(by)s, run_at = run_at - %(by)s",
            # By way of the Middle Ages, so that no row meets another on the way.
            "UPDATE _ayb_job_fires SET fire_at = fire_at - interval '800 years'",
            "UPDATE _ayb_job_fires SET fire_at = fire_at + interval '800 years' - %(by)s",
        ):
            self.conn.execute(statement, {"by": timedelta(minutes=minutes)} if "%" in statement else None)
        self.passed += timedelta(minutes=minutes)

    def do_tick(self) -> None:
        self.caught_up_by(lambda: self.scheduler(0).tick())

    def do_both(self) -> None:
        def tick_both() -> None:
            threads = [threading.Thread(target=self.scheduler(number).tick) for number in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        self.caught_up_by(tick_both)

    def caught_up_by(self, tick: Any) -> None:
        before = self.ledger()
        sure = self.now()
        tick()
        possible = self.now()
        self.expect_until(sure, possible)
        self.check_complete()
        self.check_policy({at: row for at, row in self.ledger().items() if at not in before})

    def do_crash(self, statements: int) -> None:
        with suppress(Crash):
            Scheduler(Crashing(self.databases[0], statements), lambda _: None, tick_s=15).tick()
        self.check_jobs()

    def do_edit(self, **changes: Any) -> None:
        before = self.now()
        update_schedule(self.conn, "s", changes)
        self.expect_until(before, self.now())
        self.begin()
        self.check_complete()

    def do_cron(self, cron: str) -> None:
        if cron != self.cron:
            self.do_edit(cron=cron)

    def do_enabled(self, enabled: bool) -> None:
        if enabled != get_schedule(self.conn, "s").enabled:
            self.do_edit(enabled=enabled)

    def do_cron_by_sql(self, cron: str) -> None:
        if cron != self.cron:
            self.by_sql("cron_expr = %s", cron)

    def do_cron_as_ayb_does(self, cron: str) -> None:
        """AYB writes a next run of its own making over the one that may not have been made yet."""
        if cron != self.cron and get_schedule(self.conn, "s").enabled:
            self.by_sql("next_run_at = date_trunc('minute', now()) + interval '1 minute', cron_expr = %s", cron)

    def do_enabled_by_sql(self, enabled: bool) -> None:
        if enabled != get_schedule(self.conn, "s").enabled:
            self.by_sql("enabled = %s", enabled)

    def do_off_and_on_by_sql(self) -> None:
        """Disable it and enable it again, and no scheduler sees it disabled."""
        if get_schedule(self.conn, "s").enabled:
            self.conn.execute("UPDATE _ayb_job_schedules SET enabled = false")
            self.by_sql("enabled = %s", True)

    def by_sql(self, change: str, value: object) -> None:
        before = self.now()
        self.conn.execute(f"UPDATE _ayb_job_schedules SET {change}", (value,))
        self.scheduler(1).tick()
        self.expect_until(before, self.now())
        self.begin()
        self.check_complete()

    def do_finish(self) -> None:
        self.conn.execute("UPDATE _ayb_jobs SET state = 'completed'")

    def do_prune(self) -> None:
        self.conn.execute("DELETE FROM _ayb_job_fires")
        self.required.clear()
        self.optional.clear()
        if self.next is not None:
            latest = get_schedule(self.conn, "s").last_fire_at
            self.next = self.next if latest is None else max(self.next, self.first_after(latest + self.passed))

    def first_after(self, instant: datetime) -> datetime:
        return next(fires(self.cron, "UTC", instant))

    def scheduler(self, number: int) -> Scheduler:
        return Scheduler(self.databases[number], lambda _: None, tick_s=15)

    def check_complete(self) -> None:
        recorded = set(self.ledger())
        assert self.required <= recorded, f"never recorded: {sorted(self.required - recorded)}"
        assert recorded <= self.required | self.optional, (
            f"unheard of: {sorted(recorded - self.required - self.optional)}"
        )
        self.check_jobs()

    def check_jobs(self) -> None:
        rows = self.conn.execute("SELECT scheduled_for FROM _ayb_jobs WHERE scheduled_for IS NOT NULL").fetchall()
        jobs = [row[0] + self.passed for row in rows]
        assert len(jobs) == len(set(jobs)), "a job twice for one fire"
        with_job = {at for at, (_, job_id) in self.ledger().items() if job_id is not None}
        assert with_job <= set(jobs)

    def check_policy(self, new: dict[datetime, tuple[str, str | None]]) -> None:
        outcomes = [outcome for outcome, _ in new.values()]
        most_caught_up = {"latest": 1, "all": CATCHUP_MAX, "skip": 0}[self.catchup]
        assert outcomes.count("caught_up") <= most_caught_up
        assert self.catchup == "latest" or "coalesced" not in outcomes
        if self.overlap == "skip":
            row = self.conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')").fetchone()
            assert row is not None
            assert row[0] <= 1


crons = st.sampled_from(["* * * * *", "*/5 * * * *", "0,30 * * * * *"])
actions = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([5, 35, 180])),
    st.tuples(st.just("tick")),
    st.tuples(st.just("both")),
    st.tuples(st.just("crash"), st.integers(0, 9)),
    st.tuples(st.just("cron"), crons),
    st.tuples(st.just("cron_by_sql"), crons),
    st.tuples(st.just("cron_as_ayb_does"), crons),
    st.tuples(st.just("enabled"), st.booleans()),
    st.tuples(st.just("enabled_by_sql"), st.booleans()),
    st.tuples(st.just("off_and_on_by_sql")),
    st.tuples(st.just("finish")),
    st.tuples(st.just("prune")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["latest", "all", "skip"]),
    st.sampled_from(["allow", "skip", "queue_one", "cancel_running"]),
    st.lists(actions, min_size=5, max_size=25),
)
def test_every_nominal_fire_has_exactly_one_outcome(
    conn: Conn, database_url: str, catchup: str, overlap: str, history: list[tuple[Any, ...]]
) -> None:
    databases = [Database(database_url) for _ in range(2)]
    try:
        world = World(conn, databases, catchup, overlap)
        for action in [*history, ("tick",)]:
            world.do(action)
    finally:
        for database in databases:
            database.close()
