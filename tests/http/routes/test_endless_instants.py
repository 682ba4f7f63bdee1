"""Pages by cursor hold each job once, even if its instants lie at the ends of time, as plain SQL may write them.

Versions of PostgreSQL differ in what they reckon with such instants, so that it is tried on each.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest

from ayb_jobs.config import Api
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate
from tests.edges_of_time import INSTANTS, STATES
from tests.factories import make_job
from tests.http.conftest import Server, serving


@pytest.fixture
def endless(each_empty_database_url: str) -> Iterator[tuple[Server, Connection]]:
    """A server on a database with a job in each state at each end of time."""
    with (
        closing(connect(each_empty_database_url)) as conn,
        closing(Database(each_empty_database_url, name="test")) as db,
    ):
        migrate(conn)
        for at, state in product(INSTANTS, STATES):
            make_job(conn, state, run_at=at, created_at=at, updated_at=at, last_run_at=at)
        with serving(db, api=Api(port=0)) as server:
            yield server, conn


@pytest.mark.parametrize(
    ("asked", "share"), [({}, "true"), ({"due": "true"}, "run_at <= now()"), ({"due": "false"}, "run_at > now()")]
)
def test_pages_by_cursor_hold_each_job_once(
    endless: tuple[Server, Connection], asked: dict[str, str], share: str
) -> None:
    server, conn = endless
    state = "queued" if asked else ""
    params = {**asked, "state": state, "limit": "1"}
    ids: list[str] = []
    with server.client() as client:
        page = client.get("/api/admin/jobs", params=params).json()
        while "nextCursor" in page:
            ids += [job["id"] for job in page["items"]]
            page = client.get("/api/admin/jobs", params={**params, "cursor": page["nextCursor"]}).json()
    ids += [job["id"] for job in page["items"]]
    meant = f"SELECT id::text FROM _ayb_jobs WHERE {share} AND {f'state = {state!r}' if state else 'true'}"
    assert sorted(ids) == sorted(row[0] for row in conn.execute(meant.encode()))
