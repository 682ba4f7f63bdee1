"""Jobs that run beside the limit of their type come under it, and nobody waits for whoever holds the limit."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from psycopg.errors import CheckViolation

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.limits_of_file import follow_file
from ayb_jobs.storage.queue.limited import lease_limited
from ayb_jobs.storage.queue.put_under import put_under
from tests.factories import make_job

UNDER = "SELECT limited_by FROM _ayb_jobs"


@pytest.mark.parametrize("by_sql", [False, True], ids=["by a daemon", "by a worker in any language"])
def test_a_limit_that_somebody_holds_keeps_no_row_of_what_runs(
    conn: Connection, database_url: str, *, by_sql: bool
) -> None:
    with conn.transaction():
        set_limit(conn, NewLimit(name="one", types=["a", "b"], max_running=9), by="ann")
    running, waiting = make_job(conn, "running", type="a"), make_job(conn, type="b")
    conn.execute("SET statement_timeout = '5s'")

    def put() -> list[str]:
        if by_sql:
            conn.execute("SELECT _ayb_job_put_under(%s::uuid[])", ([running, waiting],))
            return []
        return put_under(conn, [running, waiting])

    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_job_limits FOR UPDATE")
        assert put() == []  # it is nobody's fault, and comes again
        assert conn.execute(f"{UNDER} WHERE id = %s", (running,)).fetchone() == (None,)
    put()
    assert conn.execute(UNDER).fetchall() == [("one",), ("one",)]


KEEPER = """
    CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {}; END $$;
    CREATE TRIGGER keeps BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (NEW.queue = 'kept') EXECUTE FUNCTION keeps()
"""


@pytest.mark.parametrize("kept", ["NULL", "OLD"])
def test_the_jobs_that_a_trigger_keeps_from_their_limit_are_told(conn: Connection, kept: str) -> None:
    jobs = [make_job(conn, type="a", queue=queue) for queue in ("kept", "default")]
    with conn.transaction():
        set_limit(conn, NewLimit(name="one", types=["a"], max_running=9), by="ann")
    conn.execute(KEEPER.format(kept).encode())
    assert put_under(conn, jobs) == jobs[:1]


@pytest.mark.parametrize("loser_first", [True, False])
def test_what_runs_of_a_type_that_a_file_moves_counts_under_its_new_limit(
    conn: Connection, *, loser_first: bool
) -> None:
    old = [NewLimit(name=name, types=types, max_running=5) for name, types in (("a", ["x", "y"]), ("b", ["z"]))]
    new = [NewLimit(name=name, types=types, max_running=5) for name, types in (("a", ["y"]), ("b", ["z", "x"]))]
    follow_file(conn, old, by="file")
    make_job(conn, "running", type="x", priority=6, limited_by="a", limited_key="")
    follow_file(conn, new if loser_first else new[::-1], by="file")
    assert conn.execute(UNDER).fetchall() == [("b",)]


INSERT = "INSERT INTO _ayb_jobs (type, priority, limited_by, limited_key) VALUES ('a', %s, %s, %s)"


@pytest.mark.parametrize("priority", [1, 4])
@pytest.mark.parametrize(("limit", "key"), [(None, None), ("one", "k")])
def test_any_job_has_a_priority_from_1_to_4(
    conn: Connection, priority: int, limit: str | None, key: str | None
) -> None:
    assert conn.execute(INSERT, (priority, limit, key)).rowcount == 1


@pytest.mark.parametrize("priority", [5, 8])
def test_a_raised_priority_is_for_jobs_under_a_limit_alone(conn: Connection, priority: int) -> None:
    assert conn.execute(INSERT, (priority, "one", "k")).rowcount == 1
    for limit, key in [(None, None), ("one", None), (None, "k")]:
        with pytest.raises(CheckViolation):
            conn.execute(INSERT, (priority, limit, key))


@pytest.mark.parametrize("priority", [-1, 0, 9])
def test_no_job_has_any_other_priority(conn: Connection, priority: int) -> None:
    with pytest.raises(CheckViolation):
        conn.execute(INSERT, (priority, "one", "k"))


def a_new_limit(conn: Connection) -> None:
    make_job(conn, "running", type="a")
    with conn.transaction():
        set_limit(conn, NewLimit(name="one", types=["a"], max_running=1), by="ann")


def another_limit(conn: Connection) -> None:
    with conn.transaction():
        set_limit(conn, NewLimit(name="first", types=["a", "b"], max_running=1), by="ann")
    make_job(conn, "running", type="a", priority=6, limited_by="first", limited_key="")
    with conn.transaction():
        set_limit(conn, NewLimit(name="first", types=["b"], max_running=1), by="ann")
        set_limit(conn, NewLimit(name="one", types=["a"], max_running=1), by="ann")


def another_name_in_the_file(conn: Connection) -> None:
    follow_file(conn, [NewLimit(name="first", types=["a"], max_running=1)], by="file")
    make_job(conn, "running", type="a", priority=6, limited_by="first", limited_key="")
    assert follow_file(conn, [NewLimit(name="one", types=["a"], max_running=1)], by="file") == ["one"]


@pytest.mark.parametrize("change", [a_new_limit, another_limit, another_name_in_the_file])
def test_what_runs_counts_from_the_commit_of_its_limit_on(
    conn: Connection, change: Callable[[Connection], None]
) -> None:
    change(conn)
    put_under(conn, [make_job(conn, type="a")])
    assert start(conn) == 0
    conn.execute("UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL WHERE state = 'running'")
    assert start(conn) == 1


def start(conn: Connection) -> int:
    """Lease what the limit allows, and return how many that are."""
    given: dict[str, Any] = {"room": 9, "types": ["a"], "queues": ["default"], "worker_id": "w", "lease_s": 60}
    return len(lease_limited(conn, "one", **given).leased)


def test_a_trigger_that_keeps_what_runs_from_being_counted_keeps_no_limit_from_being_set(conn: Connection) -> None:
    make_job(conn, "running", type="a")
    conn.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on Sundays'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with conn.transaction():
        set_limit(conn, NewLimit(name="one", types=["a"], max_running=1), by="ann")
    assert conn.execute("SELECT name FROM _ayb_job_limits").fetchall() == [("one",)]
    assert conn.execute(UNDER).fetchall() == [(None,)]
