"""The scheduler turns due schedules into jobs, each fire once."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, Self

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from ayb_jobs.config import Retention
from ayb_jobs.events import RowsPruned, ScheduleBroken, ScheduleRepaired, SchedulesFired
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.job import Lease
from ayb_jobs.model.schedules.fires import Advance, Fire, FireOutcome, advance, jitter
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.runtime.chores.stranded import Stranded
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.queue.canceling import cancel_running_job, end_canceled_leases
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.schedules import fires as statements
from ayb_jobs.storage.schedules.fires import LOCK_DUE, Served, fire, lock_due
from ayb_jobs.storage.schedules.ledger import prune_fires
from ayb_jobs.storage.schedules.schedules import create_schedule, enable_schedule, get_schedule, update_schedule
from tests.eventually import eventually
from tests.factories import make_job
from tests.recovering import recover

Conn = psycopg.Connection[TupleRow]


class Bench:
    """A scheduler on a database of its own, turned by hand."""

    def __init__(self, url: str, conn: Conn) -> None:
        self.conn = conn
        self.events: list[object] = []
        self.database = Database(url)
        self.scheduler = Scheduler(self.database, self.events.append, tick_s=15)

    def add(self, name: str = "s", cron: str = "* * * * *", **values: Any) -> str:
        return create_schedule(
            self.conn, NewSchedule(**{"name": name, "job_type": "report", "cron": cron, **values})
        ).id

    def ago(self, interval: str, name: str = "s") -> None:
        """Put a schedule's next run back to the whole minute that lies `interval` ago."""
        self.conn.execute(
            "UPDATE _ayb_job_schedules SET next_run_at = date_trunc('minute', now() - %s::interval) WHERE name = %s",
            (interval, name),
        )

    def jobs(self) -> list[TupleRow]:
        return self.conn.execute("SELECT type, state, scheduled_for FROM _ayb_jobs ORDER BY scheduled_for").fetchall()

    def jobs_and_whether_due(self) -> list[TupleRow]:
        rows = "SELECT state, run_at <= now() + interval '1 hour' FROM _ayb_jobs ORDER BY scheduled_for"
        return self.conn.execute(rows).fetchall()

    def outcomes(self) -> list[str]:
        rows = self.conn.execute("SELECT outcome || coalesce(': ' || reason, '') FROM _ayb_job_fires ORDER BY fire_at")
        return [row[0] for row in rows]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def end_jobs(self, state: str = "completed") -> None:
        self.conn.execute("UPDATE _ayb_jobs SET state = %s", (state,))


@pytest.fixture
def bench(database_url: str, conn: Conn) -> Iterator[Bench]:
    bench = Bench(database_url, conn)
    yield bench
    bench.database.close()


def test_a_due_schedule_makes_one_job_for_its_nominal_time(bench: Bench) -> None:
    schedule_id = bench.add(cron="0 3 * * *", payload={"a": 1}, queue="slow", priority=1, max_attempts=7, timeout_s=9)
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() - interval '2 seconds'")
    nominal = get_schedule(bench.conn, "s").next_run_at
    bench.scheduler.tick()
    columns = "type, payload, queue, priority, max_attempts, timeout_s, schedule_id::text, scheduled_for"
    assert bench.conn.execute(f"SELECT {columns} FROM _ayb_jobs").fetchall() == [
        ("report", {"a": 1}, "slow", 1, 7, 9.0, schedule_id, nominal)
    ]
    after = get_schedule(bench.conn, "s")
    assert after.last_fire_at == nominal
    assert after.next_run_at is not None
    assert nominal is not None
    assert after.next_run_at > nominal
    assert bench.outcomes() == ["enqueued"]


def test_the_job_in_the_ledger_is_the_job(bench: Bench) -> None:
    bench.add()
    bench.ago("1 minute")
    bench.scheduler.tick()
    found = bench.conn.execute(
        "SELECT count(*) FROM _ayb_jobs JOIN _ayb_job_fires AS fire ON fire.job_id = id AND fire_at = scheduled_for"
    ).fetchone()
    assert found == (1,)


def test_the_event_of_a_fire_names_its_job(bench: Bench) -> None:
    bench.add()
    bench.ago("1 minute")
    bench.scheduler.tick()
    (fired,) = bench.of(SchedulesFired)
    made = bench.conn.execute("SELECT schedule_id::text, scheduled_for, id::text FROM _ayb_jobs").fetchall()
    assert fired.job_ids == {(schedule_id, fire_at): job_id for schedule_id, fire_at, job_id in made}
    assert len(made) == 1


def test_what_is_not_due_makes_no_job(bench: Bench) -> None:
    bench.add(cron="0 0 1 1 *")
    assert 0 < bench.scheduler.tick() <= 15
    assert bench.jobs() == []


def test_a_second_turn_makes_no_second_job(bench: Bench) -> None:
    bench.add(cron="0 3 * * *")
    bench.ago("1 second")
    bench.scheduler.tick()
    bench.scheduler.tick()
    assert len(bench.jobs()) == 1


def test_the_wait_ends_when_the_next_schedule_is_due(bench: Bench) -> None:
    bench.add(cron="* * * * * *")
    assert 0 < bench.scheduler.tick() <= 1


def test_many_schedulers_make_one_job_for_each_fire(bench: Bench, database_url: str) -> None:
    for number in range(300):
        bench.add(f"s{number}")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = date_trunc('minute', now())")
    databases = [Database(database_url) for _ in range(4)]
    start = threading.Barrier(4)

    def turn(database: Database) -> None:
        start.wait()
        Scheduler(database, lambda _: None, tick_s=15, batch=7).tick()

    threads = [threading.Thread(target=turn, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        assert not thread.is_alive()
    for database in databases:
        database.close()
    bench.scheduler.tick()
    row = bench.conn.execute("SELECT count(*), count(DISTINCT (schedule_id, scheduled_for)) FROM _ayb_jobs").fetchone()
    assert row is not None
    assert row[0] == row[1] >= 300  # more where the minute turned meanwhile


def test_a_schedule_advanced_by_another_meanwhile_makes_no_job(bench: Bench) -> None:
    """Without the row lock, the comparison with the old next run still decides."""
    bench.add()
    bench.ago("1 minute")

    class Racing:
        @contextmanager
        def transaction(self) -> Iterator[Any]:
            with bench.database.transaction() as conn:
                yield Overtaken(conn)

    class Overtaken:
        """A connection, or a cursor of one, on which another scheduler is quicker."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._real.close()

        def cursor(self, **options: Any) -> "Overtaken":
            return Overtaken(self._real.cursor(**options))

        def execute(self, statement: str, *args: Any, **options: Any) -> Any:
            if "decided AS" in statement:
                self._real.execute("UPDATE _ayb_job_schedules SET next_run_at = next_run_at + interval '1 hour'")
            return self._real.execute(statement, *args, **options)

    Scheduler(Racing(), lambda _: None, tick_s=15).tick()
    assert bench.jobs() == []
    assert bench.outcomes() == []


def test_a_schedule_disabled_meanwhile_makes_no_job(bench: Bench) -> None:
    bench.add()
    bench.ago("1 minute")
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = false")
    bench.scheduler.tick()
    assert bench.jobs() == []


def test_a_fire_in_the_ledger_is_never_made_again(bench: Bench) -> None:
    """Not even where the schedule's own row has forgotten it, as after a restore of that table alone."""
    bench.add()
    bench.ago("0 minutes")
    nominal = get_schedule(bench.conn, "s").next_run_at
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = %s, last_fire_at = NULL", (nominal,))
    bench.scheduler.tick()
    assert [job[2] for job in bench.jobs()].count(nominal) == 1


def test_pruning_the_ledger_does_not_let_a_fire_come_again(bench: Bench) -> None:
    bench.add()
    bench.ago("0 minutes")
    nominal = get_schedule(bench.conn, "s").next_run_at
    bench.scheduler.tick()
    bench.conn.execute("DELETE FROM _ayb_job_fires")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = %s", (nominal,))
    bench.scheduler.tick()
    assert [job[2] for job in bench.jobs()].count(nominal) == 1


def test_a_row_inserted_by_plain_sql_is_planned(bench: Bench) -> None:
    bench.conn.execute("INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('s', 'report', '0 3 * * *')")
    bench.scheduler.tick()
    planned = get_schedule(bench.conn, "s")
    assert planned.next_run_at is not None
    assert planned.next_run_at.hour == 3
    assert bench.jobs() == []


def test_a_row_that_ayb_planned_keeps_its_next_run(bench: Bench) -> None:
    bench.conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, created_at, updated_at, next_run_at) VALUES "
        "('s', 'report', '0 3 * * *', now() - interval '1 day', now() - interval '3 hours', now() - interval '2 hours')"
    )
    bench.scheduler.tick()
    assert len(bench.jobs()) == 1


def test_a_new_row_never_fires_for_a_time_before_it_was_written(bench: Bench) -> None:
    bench.conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, next_run_at) "
        "VALUES ('s', 'report', '0 3 * * *', now() - interval '2 hours')"
    )
    bench.scheduler.tick()
    assert bench.jobs() == []
    assert bench.conn.execute("SELECT next_run_at > now() FROM _ayb_job_schedules").fetchone() == (True,)


def test_an_edit_by_plain_sql_takes_effect_and_never_fires_for_the_past(bench: Bench) -> None:
    bench.add(cron="0 3 * * *")
    bench.conn.execute(
        "UPDATE _ayb_job_schedules SET cron_expr = '30 4 * * *', next_run_at = now() - interval '1 hour'"
    )
    bench.scheduler.tick()
    after = get_schedule(bench.conn, "s").next_run_at
    assert after is not None
    assert (after.hour, after.minute) == (4, 30)
    assert bench.jobs() == []


def test_enabling_by_plain_sql_never_fires_for_the_past(bench: Bench) -> None:
    bench.add()
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = false, next_run_at = now() - interval '1 hour'")
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = true")
    bench.scheduler.tick()
    assert bench.jobs() == []
    assert get_schedule(bench.conn, "s").next_run_at is not None


@pytest.mark.parametrize("planned", ["planned", "NULL"])
def test_enabling_by_plain_sql_while_no_scheduler_lives_never_fires_for_the_past(bench: Bench, planned: str) -> None:
    bench.add()
    bench.ago("1 hour")
    bench.conn.execute(f"UPDATE _ayb_job_schedules SET enabled = false, planned = {planned}".encode())
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = true")
    bench.scheduler.tick()
    assert bench.jobs() == []
    assert not any(job_made for job_made in bench.outcomes() if "skipped" not in job_made)
    assert bench.conn.execute("SELECT next_run_at > now() FROM _ayb_job_schedules").fetchone() == (True,)


def test_a_database_that_reads_null_as_a_word_silences_no_schedule(bench: Bench, database_url: str) -> None:
    bench.add()
    bench.ago("1 hour")
    name = sql.Identifier(bench.conn.info.dbname)
    bench.conn.execute(sql.SQL("ALTER DATABASE {} SET array_nulls = off").format(name))
    with closing(Database(database_url)) as database:
        Scheduler(database, bench.events.append, tick_s=15).tick()
    assert len(bench.jobs()) == 1


def test_a_next_run_that_comes_with_enabling_is_kept(bench: Bench) -> None:
    bench.add()
    bench.ago("1 hour")
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = false")
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = true, next_run_at = date_trunc('minute', now())")
    bench.scheduler.tick()
    assert len(bench.jobs()) == 1


def test_a_broken_schedule_is_told_once_and_the_others_go_on(bench: Bench) -> None:
    bench.add("good")
    bench.add("bad")
    bench.conn.execute("UPDATE _ayb_job_schedules SET cron_expr = '99 * * * *' WHERE name = 'bad'")
    for _ in range(3):
        bench.ago("1 second", "good")
        bench.scheduler.tick()
    assert [event.name for event in bench.of(ScheduleBroken)] == ["bad"]
    broken = get_schedule(bench.conn, "bad")
    assert broken.next_run_at is None
    assert broken.last_error is not None
    assert "99" in broken.last_error
    assert len(bench.jobs()) >= 1


def test_a_schedule_that_breaks_when_it_is_due_is_isolated(bench: Bench) -> None:
    bench.conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, next_run_at) "
        "SELECT name, 'report', cron, now() "
        "FROM (VALUES ('bad', 'R * * * *'), ('good', '0 3 * * *')) AS made (name, cron)"
    )
    bench.scheduler.tick()
    assert [event.name for event in bench.of(ScheduleBroken)] == ["bad"]
    assert len(bench.jobs()) == 1


@pytest.mark.parametrize("by_sql", [False, True])
def test_a_repaired_schedule_fires_again(bench: Bench, *, by_sql: bool) -> None:
    bench.add()
    bench.conn.execute("UPDATE _ayb_job_schedules SET timezone = 'Mars/Olympus'")
    bench.scheduler.tick()
    assert get_schedule(bench.conn, "s").last_error is not None
    if by_sql:
        bench.conn.execute("UPDATE _ayb_job_schedules SET timezone = 'UTC'")
        bench.scheduler.tick()
        assert [event.name for event in bench.of(ScheduleRepaired)] == ["s"]
    else:
        update_schedule(bench.conn, "s", {"timezone": "UTC"})
    repaired = get_schedule(bench.conn, "s")
    assert repaired.last_error is None
    assert repaired.next_run_at is not None


def test_what_broke_a_schedule_may_be_gone_at_the_next_start(bench: Bench) -> None:
    """As after time zone data was installed; here the row is made to look broken although it is not."""
    bench.add()
    bench.conn.execute(
        "UPDATE _ayb_job_schedules SET next_run_at = NULL, last_error = 'there is no time zone', "
        "planned = concat_ws(' ', cron_expr, timezone, dst)"
    )
    bench.scheduler.tick()
    assert [event.name for event in bench.of(ScheduleRepaired)] == ["s"]
    assert get_schedule(bench.conn, "s").next_run_at is not None


def test_an_outage_makes_one_job_for_all_that_was_missed(bench: Bench) -> None:
    bench.add()
    bench.ago("3 hours")
    bench.scheduler.tick()
    assert len(bench.jobs()) == 1
    assert bench.outcomes()[-1] == "caught_up"
    assert set(bench.outcomes()[:-1]) == {"coalesced"}
    assert len(bench.outcomes()) in (181, 182)
    assert bench.jobs()[0][2] == get_schedule(bench.conn, "s").last_fire_at


def test_catching_up_with_all_is_bounded_by_count(bench: Bench) -> None:
    bench.add(catchup="all", catchup_max=5)
    bench.ago("3 hours")
    bench.scheduler.tick()
    made = [outcome for outcome in bench.outcomes() if outcome in ("caught_up", "enqueued", "late")]
    assert len(bench.jobs()) == len(made)
    assert made.count("caught_up") == 5
    assert "skipped: more were missed than are caught up" in bench.outcomes()


def test_catching_up_with_all_is_bounded_by_age(bench: Bench) -> None:
    bench.add(catchup="all", catchup_window_s=600)
    bench.ago("3 hours")
    bench.scheduler.tick()
    row = bench.conn.execute("SELECT count(*), bool_and(scheduled_for >= now() - interval '11 minutes') FROM _ayb_jobs")
    assert row.fetchone() in [(10, True), (11, True)]
    assert "skipped: outside the catch-up window" in bench.outcomes()


def test_without_catching_up_missed_fires_are_skipped(bench: Bench) -> None:
    bench.add(cron="0 * * * *", catchup="skip")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = date_trunc('hour', now() - interval '5 hours')")
    bench.scheduler.tick()
    assert bench.outcomes()[:5] == ["skipped: missed"] * 5
    assert len(bench.jobs()) <= 1  # the hour may just have turned


def test_a_long_outage_of_a_fast_schedule_leaves_one_row_for_each_fire(bench: Bench) -> None:
    bench.add(cron="* * * * * *")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = date_trunc('second', now() - interval '12 hours')")
    first = get_schedule(bench.conn, "s").next_run_at
    bench.scheduler.tick()
    row = bench.conn.execute(
        "SELECT count(*), 1 + extract(epoch FROM max(fire_at) - min(fire_at))::int, min(fire_at) FROM _ayb_job_fires"
    ).fetchone()
    assert row is not None
    assert row[0] == row[1] >= 43_200
    assert row[2] == first
    assert bench.outcomes().count("caught_up") == 1
    assert len(bench.of(SchedulesFired)) > 1


@pytest.mark.parametrize(
    ("overlap", "state", "expected"),
    [
        ("allow", "queued", "enqueued"),
        ("allow", "running", "enqueued"),
        ("skip", "queued", "skipped: an earlier job has not ended"),
        ("skip", "running", "skipped: an earlier job has not ended"),
        ("skip", "completed", "enqueued"),
        ("skip", "failed", "enqueued"),
        ("queue_one", "queued", "skipped: an earlier job is still waiting"),
        ("queue_one", "running", "enqueued"),
        ("cancel_running", "running", "enqueued"),
    ],
)
def test_overlaps_follow_the_policy(bench: Bench, overlap: str, state: str, expected: str) -> None:
    bench.add(cron="0 0 1 1 *", overlap=overlap)
    for _ in range(2):
        bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = clock_timestamp()")
        bench.scheduler.tick()
        if len(bench.outcomes()) == 1:
            bench.end_jobs(state)
    assert bench.outcomes() == ["enqueued", expected]


def test_a_job_that_runs_is_asked_to_end_canceled_and_its_successor_starts_once_it_has(bench: Bench) -> None:
    bench.add(cron="0 0 1 1 *", overlap="cancel_running")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()
    bench.conn.execute(
        "UPDATE _ayb_jobs SET state = 'running', lease_id = gen_random_uuid(), lease_until = now() + interval '1 hour', "
        "execution_id = nextval('_ayb_job_execution_ids'), attempts = 1, last_run_at = now(), worker_id = 'w'"
    )
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()
    assert bench.jobs_and_whether_due() == [("running", True), ("queued", False)]
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()  # a third fire takes the place of the second
    assert bench.jobs_and_whether_due() == [("running", True), ("canceled", False), ("queued", False)]
    found = bench.conn.execute("SELECT id::text, canceling_lease_id::text FROM _ayb_jobs WHERE state = 'running'")
    [(job_id, lease_id)] = found.fetchall()
    assert end_canceled_leases(bench.conn, [Lease(job_id, lease_id)], worker_id="w", error="over") == {lease_id}
    assert bench.jobs_and_whether_due() == [("canceled", True), ("canceled", False), ("queued", True)]
    attempts = bench.conn.execute("SELECT outcome, worker_id, attempt FROM _ayb_job_executions").fetchall()
    assert attempts == [("canceled", "w", 1)]


def running_and_due(bench: Bench) -> str:
    """Make a schedule that is due while its job runs, and return that job's id."""
    schedule_id = bench.add(cron="0 0 1 1 *", overlap="cancel_running")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    earlier = sql.SQL("now() - interval '1 h'")
    return make_job(bench.conn, "running", type="report", schedule_id=schedule_id, scheduled_for=earlier)


def test_a_successor_that_is_committed_while_the_earlier_job_ends_is_freed(bench: Bench, database_url: str) -> None:
    job_id = running_and_due(bench)
    bench.scheduler._plan(None)
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    cancel_running_job(bench.conn, job_id)
    [(lease_id,)] = bench.conn.execute("SELECT canceling_lease_id::text FROM _ayb_jobs").fetchall()
    ended: list[set[str]] = []

    def end() -> None:
        ended.append(end_canceled_leases(bench.conn, [Lease(job_id, lease_id)], worker_id="w", error="over"))

    with closing(psycopg.connect(database_url, autocommit=True)) as other, bench.database.transaction() as firing:
        due = lock_due(firing, 10)
        assert fire(firing, [advance(schedule, now) for schedule, now in due]).job_ids
        thread = threading.Thread(target=end)
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: other.execute(waits).fetchone() == (1,))
    thread.join(20)
    assert ended == [{lease_id}]
    assert bench.jobs_and_whether_due() == [("canceled", True), ("queued", True)]


@pytest.mark.parametrize(
    "ends",
    [
        "UPDATE _ayb_jobs SET state = 'completed', lease_until = NULL WHERE id = %s",
        "DELETE FROM _ayb_jobs WHERE id = %s",
    ],
)
def test_a_successor_whose_earlier_job_plain_sql_ended_is_found_by_the_scheduler(bench: Bench, ends: str) -> None:
    job_id = running_and_due(bench)
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()
    waiting = "SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND run_at > now() + interval '1 hour'"
    another = Scheduler(bench.database, bench.events.append, tick_s=15)
    another.tick()
    assert bench.conn.execute(waiting).fetchone() == (1,)
    bench.conn.execute(ends, (job_id,))
    look_for_stranded(bench)
    assert bench.conn.execute(waiting).fetchone() == (0,)
    assert ("queued", True) in bench.jobs_and_whether_due()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM _ayb_job_schedules",
        "UPDATE _ayb_job_schedules SET overlap = 'allow'",
        "UPDATE _ayb_job_schedules SET enabled = false",
        "UPDATE _ayb_jobs SET schedule_id = NULL",
    ],
)
def test_a_successor_waits_and_starts_whatever_becomes_of_its_schedule(bench: Bench, change: LiteralString) -> None:
    job_id = running_and_due(bench)
    bench.scheduler.tick()
    bench.conn.execute(change)
    parked = make_job(bench.conn, run_at="9999-12-31 00:00:00+00")
    look_for_stranded(bench)
    assert bench.jobs_and_whether_due() == [("running", True), ("queued", False), ("queued", False)]
    end = "UPDATE _ayb_jobs SET state = 'canceled', lease_until = NULL, cancel_requested_at = NULL WHERE id = %s"
    bench.conn.execute(end, (job_id,))
    look_for_stranded(bench)
    assert bench.jobs_and_whether_due() == [("canceled", True), ("queued", True), ("queued", False)]
    assert get_job(bench.conn, parked).run_at == datetime(9999, 12, 31, tzinfo=UTC)


def look_for_stranded(bench: Bench) -> None:
    """Have a scheduler look for jobs that nobody freed."""
    Stranded(bench.database, bench.events.append).tick()


def test_recovery_frees_the_successor_of_a_job_whose_daemon_is_lost(bench: Bench) -> None:
    schedule_id = bench.add(cron="0 0 1 1 *", overlap="cancel_running")
    make_job(
        bench.conn, "running", schedule_id=schedule_id, lease_until=sql.SQL("now() - interval '1 s'"),
        scheduled_for=sql.SQL("now() - interval '1 h'"),
    )  # fmt: skip
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()
    assert bench.jobs_and_whether_due() == [("running", True), ("queued", False)]
    assert [job.state for job in recover(bench.conn, backoff=Backoff()).jobs] == ["canceled"]
    assert bench.jobs_and_whether_due() == [("canceled", True), ("queued", True)]


def test_jitter_puts_a_job_off_by_a_hash_of_schedule_and_fire(bench: Bench) -> None:
    schedule_id = bench.add(cron="0 0 1 1 *", jitter_s=86_400)
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now()")
    bench.scheduler.tick()
    row = bench.conn.execute(
        "SELECT run_at, scheduled_for, recorded_at FROM _ayb_jobs JOIN _ayb_job_fires ON job_id = id"
    ).fetchone()
    assert row is not None
    run_at, fire_at, made_at = row
    assert run_at == max(made_at, fire_at + jitter(schedule_id, fire_at, 86_400))


def test_a_fire_wakes_the_workers_once_for_all_its_jobs(bench: Bench, database_url: str) -> None:
    for number in range(5):
        bench.add(f"s{number}")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() - interval '1 second'")
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN ayb_jobs")
        bench.scheduler.tick()
        assert len(list(listener.notifies(timeout=0.5))) == 1


def test_an_absurd_next_run_does_not_stop_the_scheduler(bench: Bench) -> None:
    for name, instant in (("a", "-infinity"), ("b", "infinity"), ("c", "0044-03-15 BC"), ("d", "294276-01-01")):
        bench.add(name, cron="@yearly")
        bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = %s WHERE name = %s", (instant, name))
    bench.add("good", cron="0 3 * * *")
    bench.ago("1 minute", "good")
    assert bench.scheduler.tick() > 0
    assert len(bench.jobs()) == 1


def test_enabling_again_after_an_outage_records_nothing_for_the_past(bench: Bench) -> None:
    bench.add()
    bench.ago("3 hours")
    bench.conn.execute("UPDATE _ayb_job_schedules SET enabled = false")
    enable_schedule(bench.conn, "s")
    bench.scheduler.tick()
    assert bench.outcomes() == []


def test_old_fires_are_pruned_and_young_ones_kept(bench: Bench) -> None:
    bench.add()
    bench.ago("3 hours")
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_fires SET recorded_at = now() - interval '2 days' WHERE outcome = 'coalesced'")
    with bench.database.connection() as conn:
        assert prune_fires(conn, keep=timedelta(days=1), batch=100).rows == 100
        assert prune_fires(conn, keep=timedelta(days=1), batch=100).rows < 100
    assert bench.outcomes() == ["caught_up"]


def test_retention_prunes_the_ledger_and_alerts_as_it_does_executions(bench: Bench) -> None:
    bench.add()
    bench.ago("3 hours")
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_fires SET recorded_at = now() - interval '3 hours' WHERE outcome = 'coalesced'")
    bench.conn.execute(
        "INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message, at) "
        "SELECT 'failed', id, age, 'm', now() - age::interval FROM _ayb_job_schedules, (VALUES ('3 hours'), ('1 hour')) v (age)"
    )
    for hours, left in ((-1, 2), (2, 1)):
        pruner = Pruner(
            database=bench.database,
            retention=Retention(executions_h=hours),
            emit=bench.events.append,
            stopping=threading.Event(),
        )
        pruner.tick()
        assert bench.conn.execute("SELECT count(*) FROM _ayb_job_alerts").fetchone() == (left,)
    assert bench.outcomes() == ["caught_up"]
    assert {event.table for event in bench.of(RowsPruned)} == {"fires", "alerts"}


@pytest.mark.parametrize(
    "change", ["next_run_at = NULL", "next_run_at = 'infinity'", "next_run_at = 'infinity', planned = ''"]
)
def test_an_enabled_schedule_without_a_next_run_gets_one(bench: Bench, change: str) -> None:
    bench.add()
    bench.conn.execute(f"UPDATE _ayb_job_schedules SET {change}")
    bench.scheduler.tick()
    assert bench.conn.execute("SELECT isfinite(next_run_at) FROM _ayb_job_schedules").fetchone() == (True,)


def test_an_edit_that_overwrites_the_next_run_leaves_the_ledger_whole(bench: Bench) -> None:
    """As AYB edits a schedule: the expression and the next run at once, while no scheduler was alive."""
    bench.add(cron="0 * * * *")
    bench.ago("3 hours")
    bench.scheduler.tick()
    assert len(bench.outcomes()) >= 3
    bench.conn.execute("DELETE FROM _ayb_job_fires")
    bench.conn.execute(
        "UPDATE _ayb_job_schedules SET last_fire_at = last_fire_at - interval '3 hours', watched_since = '-infinity'"
    )
    bench.conn.execute(
        "UPDATE _ayb_job_schedules SET cron_expr = '15 * * * *', next_run_at = now() + interval '10 minutes'"
    )
    bench.scheduler.tick()
    assert len(bench.outcomes()) >= 3
    assert set(bench.outcomes()) == {"skipped: edited or disabled before it was made"}


def live(conn: Conn, *types: str) -> None:
    daemon = DaemonRecord(id="d", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=types)
    beat(conn, daemon)


@pytest.mark.parametrize(("types", "made"), [(("other",), 1), (("other", "report"), 2)])
def test_a_schedule_whose_jobs_no_live_daemon_can_run_stops_piling_them_up(
    bench: Bench, types: tuple[str, ...], made: int
) -> None:
    live(bench.conn, *types)
    bench.add()
    bench.ago("2 minutes")
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_jobs SET run_at = now() - interval '2 minutes'")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = clock_timestamp()")
    bench.scheduler.tick()
    assert len(bench.jobs()) == made
    assert ("skipped: no live daemon can run its jobs, and one waits" in bench.outcomes()) is (made == 1)


def test_what_the_schedulers_own_daemon_can_run_is_served_before_its_first_beat(bench: Bench) -> None:
    bench.add(catchup="all")
    bench.ago("3 minutes")
    bench.scheduler.tick()
    made = len(bench.jobs())
    bench.conn.execute("UPDATE _ayb_jobs SET run_at = now() - interval '2 minutes'")
    bench.conn.execute("UPDATE _ayb_job_schedules SET next_run_at = clock_timestamp()")
    Scheduler(bench.database, bench.events.append, tick_s=15, served=Served(["report"], ["default"])).tick()
    assert len(bench.jobs()) == made + 1


# Waits for the test between its look at the tables and its locks.
GATED_LOCK_DUE = LOCK_DUE.replace(
    "FROM _ayb_job_schedules AS schedule", "FROM (SELECT pg_advisory_lock(1)) AS gate, _ayb_job_schedules AS schedule"
).replace("FOR NO KEY UPDATE", "FOR NO KEY UPDATE OF schedule")


def test_a_scheduler_that_looked_before_another_fired_sees_the_others_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add(overlap="skip")
    bench.ago("2 minutes")
    bench.conn.execute("SELECT pg_advisory_lock(1)")
    with bench.database.transaction() as conn:
        [(schedule, now)] = lock_due(conn, 10)
        monkeypatch.setattr(statements, "LOCK_DUE", GATED_LOCK_DUE)
        second = threading.Thread(target=bench.scheduler.tick)
        second.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: bench.conn.execute(waiting).fetchone() == (1,))
        first_fire = Fire(schedule.due_at, FireOutcome.CAUGHT_UP)
        later = schedule.due_at + timedelta(minutes=1)
        fire(conn, [Advance(schedule=schedule, fires=[first_fire], next_at=later, cancels_running=False)])
        assert later < now
    monkeypatch.setattr(statements, "LOCK_DUE", LOCK_DUE)
    bench.conn.execute("SELECT pg_advisory_unlock(1)")
    second.join()
    assert [scheduled_for for _, _, scheduled_for in bench.jobs()] == [schedule.due_at]
