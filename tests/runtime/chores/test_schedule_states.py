"""Schedules as AYB left them in their rows: read, dormant, ended, or shown as broken at once."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import TupleRow

from ayb_jobs.errors import InvalidInput
from ayb_jobs.events import ScheduleBroken, ScheduleEnded
from ayb_jobs.storage.schedules.overdue import count_overdue, list_overdue
from ayb_jobs.storage.schedules.schedules import disable_schedule, enable_schedule, get_schedule, update_schedule
from tests.runtime.chores.test_scheduler import Bench

Conn = psycopg.Connection[TupleRow]


@pytest.fixture
def bench(database_url: str, conn: Conn) -> Iterator[Bench]:
    bench = Bench(database_url, conn)
    yield bench
    bench.database.close()


def add_row(conn: Conn, name: str, cron: str, *, timezone: str = "UTC", next_run: str | None = None) -> None:
    """Insert a schedule as AYB does."""
    conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, timezone, next_run_at) "
        "VALUES (%s, 'report', %s, %s, now() + %s::interval)",
        (name, cron, timezone, next_run),
    )


@pytest.mark.parametrize(
    "cron", ["@5minutes", "@always", "@everysecond", "0 0 15W * *", "0 0 L * 1", "0 0 * * 5L", "0 0 0 * * * 2026-2090"]
)
@pytest.mark.parametrize("timezone", ["UTC", "Local", ""])
def test_a_schedule_that_ayb_took_goes_on(bench: Bench, cron: str, timezone: str) -> None:
    add_row(bench.conn, "s", cron, timezone=timezone)
    add_row(bench.conn, "kept", cron, timezone=timezone, next_run="1 hour")
    kept = get_schedule(bench.conn, "kept").next_run_at
    bench.scheduler.tick()
    assert bench.of(ScheduleBroken) == []
    assert get_schedule(bench.conn, "s").state == "enabled"
    assert get_schedule(bench.conn, "s").next_run_at is not None
    assert get_schedule(bench.conn, "kept").next_run_at == kept
    bench.ago("2 seconds")
    bench.scheduler.tick()
    assert len(bench.jobs()) >= 1


def test_a_year_far_ahead_is_dormant_and_not_overdue(bench: Bench) -> None:
    add_row(bench.conn, "s", "0 0 1 1 * 2099")
    bench.conn.execute("UPDATE _ayb_job_schedules SET expect_success_within_s = 60, watched_since = '2020-01-01'")
    bench.scheduler.tick()
    bench.conn.execute("UPDATE _ayb_job_schedules SET watched_since = '2020-01-01'")
    found = get_schedule(bench.conn, "s")
    assert (found.state, found.next_run_at) == ("dormant", datetime(2099, 1, 1, tzinfo=UTC))
    assert list_overdue(bench.conn) == []
    update_schedule(bench.conn, "s", {"payload": {"a": 1}})
    disable_schedule(bench.conn, "s")
    assert enable_schedule(bench.conn, "s").state == "dormant"
    with pytest.raises(InvalidInput, match="five years"):
        update_schedule(bench.conn, "s", {"cron": "0 0 1 1 * 2098"})


def test_a_year_gone_by_has_ended_and_is_told_once(bench: Bench) -> None:
    add_row(bench.conn, "s", "0 0 1 1 * 2018")
    for _ in range(3):
        bench.scheduler.tick()
    assert [event.name for event in bench.of(ScheduleEnded)] == ["s"]
    found = get_schedule(bench.conn, "s")
    assert (found.state, found.next_run_at, found.last_error) == ("ended", None, None)
    assert list_overdue(bench.conn) == []
    assert update_schedule(bench.conn, "s", {"cron": "@daily"}).state == "enabled"


def test_the_last_fire_makes_its_job_and_ends_the_schedule(bench: Bench) -> None:
    last = datetime(datetime.now(UTC).year - 1, 12, 31, 23, 59, tzinfo=UTC)
    add_row(bench.conn, "s", f"* * * * * {last.year}")
    bench.scheduler.tick()
    bench.conn.execute(
        "UPDATE _ayb_job_schedules SET ended_at = NULL, last_fire_at = %(last)s - interval '1 minute', "
        "next_run_at = %(last)s, planned = concat_ws(' ', cron_expr, timezone, dst)",
        {"last": last},
    )
    bench.scheduler.tick()
    assert [row[2] for row in bench.jobs()] == [last]
    assert get_schedule(bench.conn, "s").state == "ended"


@pytest.mark.parametrize(("cron", "timezone"), [("0 0 30 2 *", "UTC"), ("H * * * *", "UTC"), ("@daily", "Mars/X")])
def test_a_row_that_cannot_be_read_is_broken_at_once(bench: Bench, cron: str, timezone: str) -> None:
    """Before any scheduler has seen it, and not on the day on which it is due."""
    add_row(bench.conn, "bad", cron, timezone=timezone, next_run="30 days")
    add_row(bench.conn, "good", "@daily", next_run="30 days")
    for _ in range(2):
        assert get_schedule(bench.conn, "bad").state == "broken"
        assert get_schedule(bench.conn, "bad").last_error
        assert [(each.name, each.reason) for each in list_overdue(bench.conn)] == [("bad", "broken")]
        assert count_overdue(bench.conn) == 1
        bench.scheduler.tick()
    assert [event.name for event in bench.of(ScheduleBroken)] == ["bad"]
