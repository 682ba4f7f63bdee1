"""Shipped schedules follow their definition until an operator edits them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.schedules.definitions import list_drift, upsert_defaults
from ayb_jobs.storage.schedules.schedules import (
    create_schedule,
    delete_schedule,
    disable_schedule,
    get_schedule,
    list_schedules,
    update_schedule,
)
from tests.eventually import eventually

Conn = psycopg.Connection[TupleRow]


def shipped(**values: Any) -> NewSchedule:
    return NewSchedule(**{"name": "prune", "job_type": "prune", "cron": "0 3 * * *", "payload": {"h": 168}, **values})


def test_a_new_definition_appears(conn: Conn) -> None:
    assert upsert_defaults(conn, [shipped()]).created == ("prune",)
    assert get_schedule(conn, "prune").origin == "shipped"


def test_a_second_start_changes_nothing(conn: Conn) -> None:
    upsert_defaults(conn, [shipped()])
    before = list_schedules(conn)
    again = upsert_defaults(conn, [shipped()])
    assert (again.created, again.updated, again.kept) == ((), (), ())
    assert list_schedules(conn) == before


def test_an_untouched_schedule_follows_a_changed_definition(conn: Conn) -> None:
    upsert_defaults(conn, [shipped()])
    assert upsert_defaults(conn, [shipped(cron="0 4 * * *", payload={"h": 24})]).updated == ("prune",)
    followed = get_schedule(conn, "prune")
    assert (followed.cron, followed.payload_text, followed.origin) == ("0 4 * * *", '{"h": 24}', "shipped")
    assert followed.next_run_at is not None
    assert followed.next_run_at.hour == 4


def test_an_operators_edit_survives_a_changed_definition(conn: Conn) -> None:
    upsert_defaults(conn, [shipped()])
    update_schedule(conn, "prune", {"cron": "30 1 * * *"})
    assert upsert_defaults(conn, [shipped(cron="0 4 * * *")]).kept == ("prune",)
    kept = get_schedule(conn, "prune")
    assert (kept.cron, kept.origin) == ("30 1 * * *", "edited")


def test_a_disabled_shipped_schedule_stays_disabled(conn: Conn) -> None:
    upsert_defaults(conn, [shipped()])
    disable_schedule(conn, "prune")
    upsert_defaults(conn, [shipped()])
    assert not get_schedule(conn, "prune").enabled


def test_an_edit_by_plain_sql_survives_too(conn: Conn) -> None:
    upsert_defaults(conn, [shipped()])
    conn.execute("UPDATE _ayb_job_schedules SET payload = '{}'")
    upsert_defaults(conn, [shipped(payload={"h": 1})])
    assert get_schedule(conn, "prune").payload_text == "{}"


def test_a_row_that_ayb_made_is_taken_over_where_it_is_as_shipped(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_schedules (name, job_type, payload, cron_expr) VALUES ('prune', 'prune', '{\"h\": 168}', '0 3 * * *')"
    )
    upsert_defaults(conn, [shipped(overlap="skip")])
    taken = get_schedule(conn, "prune")
    assert (taken.overlap, taken.origin) == ("skip", "shipped")


def test_a_row_of_that_name_that_somebody_made_is_left_alone(conn: Conn) -> None:
    conn.execute("INSERT INTO _ayb_job_schedules (name, job_type, cron_expr) VALUES ('prune', 'mine', '* * * * *')")
    before = list_schedules(conn)
    assert upsert_defaults(conn, [shipped()]).kept == ("prune",)
    assert list_schedules(conn) == before


def test_daemons_that_start_at_once_make_one_row_each(database_url: str, conn: Conn) -> None:
    schedules = [shipped(name=f"s{number}") for number in range(20)]

    def start(_: int) -> int:
        with psycopg.connect(database_url, autocommit=True) as own:
            return len(upsert_defaults(own, schedules).created)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 20
    assert len(list_schedules(conn)) == 20


WAITS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_schedule_that_somebody_makes_meanwhile_keeps_none_of_the_others_from_being_made(
    database_url: str, conn: Conn
) -> None:
    with (
        closing(connect(database_url)) as theirs,
        closing(connect(database_url)) as ours,
        ThreadPoolExecutor() as pool,
    ):
        with theirs.transaction():
            create_schedule(theirs, shipped(name="b", cron="5 5 * * *"))
            starting = pool.submit(upsert_defaults, ours, [shipped(name=name) for name in "abc"])
            eventually(lambda: conn.execute(WAITS).fetchall())
        started = starting.result()
    assert (started.created, started.kept) == (("a", "c"), ("b",))
    assert [schedule.name for schedule in list_schedules(conn)] == ["a", "b", "c"]


def test_drift_names_what_differs_and_why(conn: Conn) -> None:
    upsert_defaults(conn, [shipped(name=name) for name in ("edited", "outdated", "same", "undefined", "gone")])
    update_schedule(conn, "edited", {"cron": "30 1 * * *", "payload": {}})
    delete_schedule(conn, "gone")
    defined = [shipped(name=name) for name in ("edited", "same", "gone")] + [shipped(name="outdated", priority=1)]
    drifts = {drift.name: (drift.kind, drift.fields) for drift in list_drift(conn, defined)}
    assert drifts == {
        "edited": ("edited", {"cron": ("0 3 * * *", "30 1 * * *"), "payload": ({"h": 168}, {})}),
        "gone": ("missing", {}),
        "outdated": ("outdated", {"priority": (1, 2)}),
        "undefined": ("undefined", {}),
    }
