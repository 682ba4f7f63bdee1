"""The same calls on each driver's connection, on a real server, with the same answers and errors."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import Conflict, InvalidInput, NewJob, Unique
from ayb_jobs.errors import DatabaseError, MigrationError, NotFound
from ayb_jobs.storage.database import Connection
from tests.client.connections import DRIVERS, Calling, Rollback, calling
from tests.factories import make_job
from tests.storage.queue.test_dropped_jobs import DROP_UNWANTED

each_driver = pytest.mark.parametrize("driver", DRIVERS)
HOSTILE = 'a\tb\nc\\d "e" :x %s $1 ü\\N'
AT = datetime(2040, 1, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FULL = NewJob(
    type=HOSTILE, payload={HOSTILE: [HOSTILE, None, Decimal("1.10")]}, queue=HOSTILE, priority=4, max_attempts=9,
    run_at=AT, idempotency_key=HOSTILE, traceparent=TRACE,
)  # fmt: skip
STORED = """
    SELECT type, payload::text, queue, priority, max_attempts, run_at, idempotency_key, traceparent
    FROM _ayb_jobs ORDER BY id
"""


def stored(conn: Connection) -> list[Any]:
    return conn.execute(STORED).fetchall()


@each_driver
def test_a_job_is_stored_as_it_was_asked_for(driver: str, database_url: str, conn: Connection) -> None:
    made = calling(driver, database_url, lambda on: on.enqueue(FULL))
    payload = conn.execute("SELECT %s::jsonb::text", (FULL.payload_text,)).fetchone()
    assert payload is not None
    assert "1.10" in payload[0]
    assert stored(conn) == [(HOSTILE, payload[0], HOSTILE, 4, 9, AT, HOSTILE, TRACE)]
    assert conn.execute("SELECT id::text FROM _ayb_jobs").fetchone() == (made.id,)
    assert (made.created, made.id[14]) == (True, "7")


@each_driver
def test_a_delay_is_so_many_seconds_by_the_databases_clock(driver: str, database_url: str, conn: Connection) -> None:
    jobs = [NewJob(type="a", delay=timedelta(days=1, microseconds=1)), NewJob(type="b")]
    calling(driver, database_url, lambda on: [on.enqueue(job) for job in jobs] + [on.enqueue_many(jobs)])
    waits = conn.execute("SELECT type, run_at - created_at FROM _ayb_jobs ORDER BY type").fetchall()
    assert waits == [("a", jobs[0].delay)] * 2 + [("b", timedelta(0))] * 2


@each_driver
def test_a_cancel_is_asked_for_in_the_callers_transaction(driver: str, database_url: str, conn: Connection) -> None:
    queued, runs, done = (make_job(conn, state) for state in ("queued", "running", "completed"))
    for _ in range(2):
        assert calling(driver, database_url, lambda on: on.request_cancel(runs)) == "running"
    assert calling(driver, database_url, lambda on: on.request_cancel(queued)) == "canceled"
    with pytest.raises(Conflict, match="is completed; only queued and running jobs can be canceled"):
        calling(driver, database_url, lambda on: on.request_cancel(done))
    with pytest.raises(NotFound):
        calling(driver, database_url, lambda on: on.request_cancel("01890000-0000-7000-8000-00000000000a"))
    asked = "SELECT state FROM _ayb_jobs WHERE cancel_requested_at IS NOT NULL AND lease_id IS NULL"
    assert conn.execute(asked).fetchall() == [("running",)]


@each_driver
def test_the_callers_transaction_decides(driver: str, database_url: str, conn: Connection) -> None:
    def calls(on: Calling) -> None:
        on.enqueue(NewJob(type="a"))
        on.enqueue_many([NewJob(type="a"), NewJob(type="a", idempotency_key="k")])
        assert stored(conn) == []
        raise Rollback

    calling(driver, database_url, calls)
    assert stored(conn) == []
    calling(driver, database_url, lambda on: (on.enqueue(NewJob(type="a")), on.enqueue_many([NewJob(type="b")])))
    assert sorted(row[0] for row in stored(conn)) == ["a", "b"]


@each_driver
def test_a_taken_key_answers_with_its_job(driver: str, database_url: str, conn: Connection) -> None:
    first = make_job(conn, "completed", idempotency_key="k")

    def calls(on: Calling) -> Any:
        one = on.enqueue(NewJob(type="a", idempotency_key="k"))
        new = [NewJob(type="a", idempotency_key=key) for key in ("k", "l", "l", None)]
        return one, on.enqueue_many(new), on.enqueue_many(iter([])), on.enqueue_many(new[:1])

    assert calling(driver, database_url, calls) == ((first, False), 2, 0, 0)


@each_driver
def test_a_call_notifies_once_and_only_if_a_job_is_due(
    driver: str, database_url: str, notified: Callable[[], int]
) -> None:  # fmt: skip
    due, later, keyed = NewJob(type="a"), NewJob(type="a", delay=timedelta(1)), NewJob(type="a", idempotency_key="k")
    for jobs, expected in (([due], 1), ([due, due, later, keyed], 1), ([later], 0), ([keyed], 0), ([], 0)):
        calling(driver, database_url, partial(lambda jobs, on: on.enqueue_many(jobs), jobs))
        assert notified() == expected, jobs
    calling(driver, database_url, lambda on: on.enqueue(due))
    assert notified() == 1
    calling(driver, database_url, lambda on: on.enqueue(later))
    assert notified() == 0


@each_driver
def test_many_are_stored_as_asked_for_in_their_order(driver: str, database_url: str, conn: Connection) -> None:
    due = [NewJob(type=f"{HOSTILE}{number}", queue=HOSTILE, payload=FULL.payload) for number in range(250)]
    assert calling(driver, database_url, lambda on: on.enqueue_many([*due, FULL])) == 251
    found = stored(conn)
    assert [row[0] for row in found] == [job.type for job in due] + [HOSTILE]
    assert {row[1:5] for row in found[:-1]} == {(found[-1][1], HOSTILE, 2, 3)}
    assert found[-1][2:] == (HOSTILE, 4, 9, AT, HOSTILE, TRACE)


Put = Callable[[Calling, NewJob], object]
each_call = pytest.mark.parametrize(
    "put",
    [
        lambda on, job: on.enqueue(job),
        lambda on, job: on.enqueue_many([job]),
        lambda on, job: on.enqueue_many([job, NewJob(type="a", idempotency_key="k")]),
    ],
    ids=["one", "many", "many with keys"],
)


@each_driver
@each_call
def test_missing_tables_are_told(driver: str, put: Put, empty_database_url: str) -> None:
    with pytest.raises(MigrationError, match=r"_ayb_job.*; run: ayb-jobs migrate"):
        calling(driver, empty_database_url, lambda on: put(on, NewJob(type="a")))


@each_driver
@each_call
def test_a_missing_right_is_told(driver: str, put: Put, database_url: str, conn: Connection) -> None:
    name = sql.Identifier(f"app_{conn.info.dbname}")
    conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    try:
        as_role = psycopg.conninfo.make_conninfo(database_url, user=f"app_{conn.info.dbname}")
        with pytest.raises(DatabaseError, match=r"lacks a right: .*_ayb_jobs.*; run: ayb-jobs grant ROLE --enqueue"):
            calling(driver, as_role, lambda on: put(on, NewJob(type="a")))
    finally:
        conn.execute(sql.SQL("DROP ROLE {}").format(name))


@each_driver
@each_call
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"traceparent": "x" * 56}, "the database refuses a value: .*too long"),
        ({"traceparent": "\x00"}, "the database refuses a value|NUL"),
        ({"traceparent": "\ud800"}, "encod"),
        ({"delay": timedelta(days=999_999_999)}, "out of range|delay is more than 100 years"),
        ({"payload": {"x": {1}}}, "payload.x: a set cannot be stored"),
    ],
    ids=["long", "NUL", "surrogate", "far", "set"],
)
def test_a_bad_value_is_refused(
    driver: str, put: Put, values: dict[str, Any], words: str, database_url: str, conn: Connection
) -> None:
    with pytest.raises(InvalidInput, match=words):
        calling(driver, database_url, lambda on: put(on, NewJob(type="a", **values)))
    assert stored(conn) == []


@each_driver
def test_a_job_that_a_trigger_drops_is_told(driver: str, database_url: str, conn: Connection) -> None:
    conn.execute(DROP_UNWANTED)
    keyed: list[dict[str, Any]] = [{}, {"idempotency_key": "k"}, {"unique": Unique(key="k")}]
    for values in keyed:
        dropped = NewJob(type="unwanted", **values)
        with pytest.raises(Conflict, match=r"^the job was not made: .*drops it$"):
            calling(driver, database_url, partial(lambda dropped, on: on.enqueue(dropped), dropped))
    jobs = [NewJob(type=name, idempotency_key=key) for name in ("unwanted", "wanted") for key in (None, name)]
    assert calling(driver, database_url, lambda on: on.enqueue_many(jobs)) == 2


@each_driver
def test_what_is_no_job_is_refused(driver: str, database_url: str, conn: Connection) -> None:
    job: Any
    for job in ("send_mail", {"type": "send_mail"}, None):
        with pytest.raises(TypeError, match="was given for a job"):
            calling(driver, database_url, partial(lambda job, on: on.enqueue(job), job))
        with pytest.raises(TypeError, match="was given for a job"):
            calling(driver, database_url, partial(lambda job, on: on.enqueue_many([NewJob(type="a"), job]), job))
    for jobs in (NewJob(type="a"), 5):
        with pytest.raises(TypeError, match="was given"):
            calling(driver, database_url, partial(lambda jobs, on: on.enqueue_many(jobs), jobs))
    assert stored(conn) == []


@each_driver
def test_an_error_of_the_applications_own_passes_as_it_is(driver: str, database_url: str, conn: Connection) -> None:
    def jobs() -> Iterator[NewJob]:
        yield NewJob(type="a")
        raise psycopg.errors.UndefinedTable('relation "mine" does not exist')

    with pytest.raises(psycopg.errors.UndefinedTable):
        calling(driver, database_url, lambda on: on.enqueue_many(jobs()))
    assert stored(conn) == []


@each_driver
def test_a_unique_key_makes_one_job_and_replaces_it(driver: str, database_url: str, conn: Connection) -> None:
    def job(number: int, **unique: Any) -> NewJob:
        return NewJob(type="a", payload={"n": number, "t": HOSTILE}, unique=Unique(**unique))

    def calls(on: Calling) -> Any:
        first = on.enqueue(job(1, key=HOSTILE, scope="waiting"))
        again = on.enqueue(job(2, key=HOSTILE, on_conflict="replace"))
        many = [job(3, by=["t"]), job(4, by=["t"]), job(5, key=HOSTILE), job(6, key=HOSTILE, on_conflict="replace")]
        return first, again, on.enqueue_many(many), on.enqueue_many(iter(many[:1]))

    first, again, made, none = calling(driver, database_url, calls)
    assert (first.created, again, made, none) == (True, (first.id, False), 1, 0)
    rows = conn.execute("SELECT payload->'n' FROM _ayb_jobs ORDER BY 1").fetchall()
    assert rows == [(3,), (6,)]
    with pytest.raises(Conflict, match=first.id):
        calling(driver, database_url, lambda on: on.enqueue(job(7, key=HOSTILE, on_conflict="reject")))


@each_driver
def test_a_batch_is_made_and_sealed_with_its_jobs(driver: str, database_url: str, conn: Connection) -> None:
    jobs = [NewJob(type="a"), NewJob(type="b"), NewJob(type="c", delay=timedelta(hours=1)), FULL]
    on_done = NewJob(type=HOSTILE, payload={HOSTILE: Decimal("1.10")}, queue=HOSTILE, priority=1)
    made = calling(driver, database_url, lambda on: on.batch(jobs, on_done=on_done, description=HOSTILE))
    members = conn.execute("SELECT type FROM _ayb_jobs WHERE batch_id = %s ORDER BY id", (made,)).fetchall()
    assert sorted(members) == sorted((job.type,) for job in jobs)
    row = conn.execute(
        "SELECT description, sealed_at IS NOT NULL FROM _ayb_job_batches WHERE id = %s", (made,)
    ).fetchone()
    assert row == (HOSTILE, True)
    stored = "SELECT event, type, payload::text LIKE '%%1.10%%', queue, priority FROM _ayb_job_batch_callbacks WHERE batch_id = %s"
    assert conn.execute(stored, (made,)).fetchall() == [("done", HOSTILE, True, HOSTILE, 1)]
    conn.execute("UPDATE _ayb_job_batches SET done_at = now()")
    for more in (jobs[:1], jobs[1:2]):
        given = [job._replace(batch_id=made) for job in more]
        with pytest.raises(Conflict, match=f"batch {made} is done; it takes no more jobs"):
            calling(driver, database_url, partial(Calling.enqueue_many, jobs=given))
