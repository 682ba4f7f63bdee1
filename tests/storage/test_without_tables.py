"""What an application is told that enqueues before the tables are there."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from ayb_jobs import NewJob, enqueue, enqueue_many
from ayb_jobs.errors import DatabaseError

INERROR, IDLE = psycopg.pq.TransactionStatus.INERROR, psycopg.pq.TransactionStatus.IDLE
each_way = pytest.mark.parametrize(
    ("put", "left"),
    [
        (lambda conn: enqueue(conn, NewJob(type="a")), INERROR),
        # Nothing of what it began stays for a commit.
        (lambda conn: enqueue_many(conn, [NewJob(type="a")]), IDLE),
        (lambda conn: enqueue_many(conn, [NewJob(type="a", idempotency_key="k")]), IDLE),
    ],
    ids=["enqueue", "many", "many with keys"],
)
Put = Callable[[psycopg.Connection[Any]], object]


@each_way
def test_it_is_told_what_to_run_and_its_transaction_has_failed(
    empty_database_url: str, put: Put, left: psycopg.pq.TransactionStatus
) -> None:
    with psycopg.connect(empty_database_url) as conn:
        with pytest.raises(DatabaseError, match=r"_ayb_job.*; run: ayb-jobs migrate"):
            put(conn)
        assert conn.info.transaction_status == left
        conn.rollback()
        with conn.transaction():
            conn.execute("CREATE TABLE mine (id int)")
            with pytest.raises(DatabaseError), conn.transaction():
                put(conn)
        assert conn.execute("SELECT count(*) FROM mine").fetchone() == (0,)


def test_an_error_of_the_applications_own_passes_as_it_is(conn: psycopg.Connection[Any]) -> None:
    def jobs() -> Any:
        yield NewJob(type="a")
        raise psycopg.errors.UndefinedTable('relation "mine" does not exist')

    with pytest.raises(psycopg.errors.UndefinedTable):
        enqueue_many(conn, jobs())
