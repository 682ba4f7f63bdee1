"""Jobs that run beside the limit of their type come under it, and nobody waits for whoever holds the limit."""

from contextlib import closing

import pytest

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
