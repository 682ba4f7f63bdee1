"""Jobs that run beside the limit of their type come under it, and nobody waits for whoever holds the limit."""

from contextlib import closing

import pytest
from psycopg.errors import CheckViolation

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.queue.put_under import put_under
from tests.factories import make_job

UNDER = "SELECT limited_by FROM _ayb_jobs"


@pytest.mark.parametrize("by_sql", [False, True], ids=["by a daemon", "by a worker in any language"])
def test_a_limit_that_somebody_holds_keeps_no_row_of_what_runs(
    conn: Connection, database_url: str, *, by_sql: bool
) -> None:
    running, waiting = make_job(conn, "running", type="a"), make_job(conn, type="b")
    with conn.transaction():
        set_limit(conn, NewLimit(name="one", types=["a", "b"], max_running=9), by="ann")
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
