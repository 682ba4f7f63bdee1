"""Schedules as their users see them."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.storage.schedules import schedules
from ayb_jobs.storage.schedules.schedules import (
    create_schedule,
    delete_schedule,
    detach_ended_jobs,
    disable_schedule,
    enable_schedule,
    get_schedule,
    list_schedules,
    trigger_schedule,
    update_schedule,
)
from tests.factories import make_job

Conn = psycopg.Connection[TupleRow]


def new(name: str = "nightly", **values: Any) -> NewSchedule:
    return NewSchedule(**{"name": name, "job_type": "report", "cron": "0 3 * * *", **values})


def database_now(conn: Conn) -> Any:
    row = conn.execute("SELECT now()").fetchone()
    assert row
    return row[0]


def age(conn: Conn, name: str = "nightly") -> None:
    """Let a schedule's next run have come an hour ago."""
    conn.execute("UPDATE _ayb_job_schedules SET next_run_at = now() - interval '1 hour' WHERE name = %s", (name,))


def test_a_new_schedule_fires_first_after_now(conn: Conn) -> None:
    made = create_schedule(conn, new())
    assert made.next_run_at is not None
    assert made.next_run_at > database_now(conn)
    assert made.next_run_at.strftime("%H:%M:%S") == "03:00:00"
    assert made.max_attempts == 3
    assert made.origin == "operator"


def test_a_schedule_is_found_by_id_and_by_name(conn: Conn) -> None:
    made = create_schedule(conn, new())
    assert get_schedule(conn, made.id) == get_schedule(conn, "nightly") == made


def test_schedules_are_listed_by_name(conn: Conn) -> None:
    for name in ("b", "c", "a"):
        create_schedule(conn, new(name))
    assert [schedule.name for schedule in list_schedules(conn)] == ["a", "b", "c"]


def test_a_taken_name_is_a_conflict_and_changes_nothing(conn: Conn) -> None:
    first = create_schedule(conn, new())
    with pytest.raises(Conflict, match="nightly"):
        create_schedule(conn, new(job_type="other"))
    assert list_schedules(conn) == [first]


def test_a_disabled_schedule_shows_its_next_run_unless_it_was_told_to_forget_it(conn: Conn) -> None:
    made = create_schedule(conn, new(enabled=False))
    assert made.next_run_at is not None
    assert update_schedule(conn, "nightly", {"cron": "0 4 * * *"}).next_run_at != made.next_run_at
    create_schedule(conn, new("other"))
    assert update_schedule(conn, "other", {"enabled": False}).next_run_at is not None
    assert disable_schedule(conn, "other").next_run_at is None


def test_only_what_is_given_is_changed(conn: Conn) -> None:
    before = create_schedule(conn, new(payload={"a": 1}, timezone="Europe/Berlin", priority=1))
    after = update_schedule(conn, "nightly", {"payload": {"b": 2}})
    assert after.payload_text == '{"b": 2}'
    changed = {name for name in vars(before) if getattr(before, name) != getattr(after, name)}
    assert changed == {"payload_text", "updated_at"}


@pytest.mark.parametrize("changes", [{"cron": "0 4 * * *"}, {"timezone": "Asia/Tokyo"}])
def test_a_changed_timing_never_fires_for_the_past(conn: Conn, changes: dict[str, str]) -> None:
    create_schedule(conn, new())
    age(conn)
    after = update_schedule(conn, "nightly", changes)
    assert after.next_run_at is not None
    assert after.next_run_at > database_now(conn)


def test_enabling_again_never_fires_for_the_past(conn: Conn) -> None:
    create_schedule(conn, new())
    age(conn)
    conn.execute("UPDATE _ayb_job_schedules SET enabled = false")
    after = enable_schedule(conn, "nightly")
    assert after.next_run_at is not None
    assert after.next_run_at > database_now(conn)


def test_enabling_what_is_enabled_keeps_its_next_run(conn: Conn) -> None:
    create_schedule(conn, new())
    age(conn)
    before = get_schedule(conn, "nightly").next_run_at
    assert enable_schedule(conn, "nightly").next_run_at == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "every day"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"enabled": "yes"}, "enabled"),
        ({"overlap": "never"}, "overlap"),
        ({"catchup": "some"}, "catchup"),
        ({"dst": "twice"}, "dst"),
        ({"jitter_s": -1}, "jitter_s"),
        ({"jitter_s": float("nan")}, "jitter_s"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 1e300}, "timeout_s"),
        ({"expect_success_within_s": 0.5}, "expect_success_within_s"),
        ({"expect_success_within_s": 1e300}, "expect_success_within_s"),
        ({"catchup_window_s": 1e300}, "catchup_window_s"),
        ({"catchup_max": 100_000}, "catchup_max"),
        ({"priority": 5}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"job_type": ""}, "job_type"),
        ({"job_type": "x" * 101}, "job_type"),
        ({"name": "nul\x00"}, "name"),
        ({"payload": {"a": "\x00"}}, "payload"),
        ({"ping_url": "ftp://example.com"}, "ping_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_and_changes_nothing(
    conn: Conn, changes: dict[str, Any], field: str
) -> None:
    before = create_schedule(conn, new())
    with pytest.raises(InvalidInput) as refusal:
        update_schedule(conn, "nightly", changes)
    assert refusal.value.field == field
    assert get_schedule(conn, "nightly") == before


def test_a_broken_schedule_can_be_disabled_and_repaired(conn: Conn) -> None:
    create_schedule(conn, new())
    conn.execute("UPDATE _ayb_job_schedules SET cron_expr = 'nonsense', next_run_at = NULL, last_error = 'no cron'")
    assert not disable_schedule(conn, "nightly").enabled
    with pytest.raises(InvalidInput):
        enable_schedule(conn, "nightly")
    repaired = update_schedule(conn, "nightly", {"cron": "@hourly", "enabled": True})
    assert repaired.last_error is None
    assert repaired.next_run_at is not None


def test_deleting_a_schedule_keeps_its_jobs(conn: Conn) -> None:
    create_schedule(conn, new())
    job_id = trigger_schedule(conn, "nightly").id
    delete_schedule(conn, "nightly")
    assert list_schedules(conn) == []
    assert conn.execute("SELECT id::text, schedule_id FROM _ayb_jobs").fetchall() == [(job_id, None)]


def test_ended_jobs_are_taken_from_a_schedule_batch_by_batch(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "DETACHED_AT_ONCE", 2)
    made = create_schedule(conn, new())
    for state in ("completed", "failed", "canceled", "completed", "completed", "queued"):
        make_job(conn, state, schedule_id=made.id)
    make_job(conn, "completed", schedule_id=create_schedule(conn, new("other")).id)
    assert [detach_ended_jobs(conn, "nightly") for _ in range(3)] == [True, True, False]
    left = conn.execute("SELECT state FROM _ayb_jobs WHERE schedule_id = %s", (made.id,)).fetchall()
    assert left == [("queued",)]
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE schedule_id IS NULL").fetchone() == (5,)


def test_triggering_makes_a_job_now_even_where_disabled(conn: Conn) -> None:
    made = create_schedule(
        conn, new(payload={"a": 1}, queue="slow", priority=1, max_attempts=7, timeout_s=9, enabled=False)
    )
    trigger_schedule(conn, "nightly")
    columns = (
        "type, payload, queue, priority, max_attempts, timeout_s, schedule_id::text, scheduled_for, run_at <= now()"
    )
    assert conn.execute(f"SELECT {columns} FROM _ayb_jobs").fetchall() == [
        ("report", {"a": 1}, "slow", 1, 7, 9.0, made.id, None, True)
    ]
    assert get_schedule(conn, "nightly") == made


@pytest.mark.parametrize(
    "act", [get_schedule, enable_schedule, disable_schedule, detach_ended_jobs, delete_schedule, trigger_schedule]
)
@pytest.mark.parametrize("key", ["nobody", "0190b6a0-0000-7000-8000-000000000000"])
def test_what_is_not_there_is_not_found(conn: Conn, act: Any, key: str) -> None:
    with pytest.raises(NotFound, match=key):
        act(conn, key)
