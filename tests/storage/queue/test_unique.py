"""Unique jobs: of those with one key at most one waits or runs, whoever enqueues and whatever ends meanwhile."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import Conflict, Enqueued, InvalidInput, NewJob, Unique, enqueue, enqueue_many, retry_job
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.bulk import BulkAction, change
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.queue import bulk
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.put_under import put_under
from ayb_jobs.storage.rows import one_row
from tests.eventually import eventually
from tests.factories import make_job

LANES = [Lane("default", 2)]
UNDER = "SELECT priority, limited_by, limited_key FROM _ayb_jobs"
WAITS_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def sync(payload: Any = None, *, delay: timedelta | None = None, **unique: Any) -> NewJob:
    return NewJob(type="sync", payload=payload or {}, delay=delay, unique=Unique(**{"key": "k", **unique}))


def lease(conn: Connection) -> list[str]:
    return [job.id for job in lease_jobs(conn, worker_id="w", lanes=LANES, types=["sync"], limit=9, lease_s=60)]


def payloads(conn: Connection, *states: str) -> list[Any]:
    rows = conn.execute("SELECT payload FROM _ayb_jobs WHERE state = ANY (%s) ORDER BY id", (list(states),))
    return [row[0] for row in rows]


def end(conn: Connection, job_id: str, state: str = "completed") -> None:
    conn.execute("UPDATE _ayb_jobs SET state = %s, lease_id = NULL, lease_until = NULL WHERE id = %s", (state, job_id))


def test_fifty_enqueuers_of_one_key_make_one_job(conn: Connection, database_url: str) -> None:
    start = threading.Barrier(10)

    def enqueuer(_: int) -> list[Enqueued]:
        with closing(connect(database_url)) as own:
            start.wait(20)
            return [enqueue(own, sync()) for _ in range(5)]

    with ThreadPoolExecutor(10) as pool:
        made = [one for some in pool.map(enqueuer, range(10)) for one in some]
    assert len({one.id for one in made}) == 1
    assert [one.created for one in made].count(True) == 1
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)


@pytest.mark.parametrize("scope", ["unfinished", "waiting"])
def test_a_job_holds_its_key_for_its_scope(conn: Connection, scope: Any) -> None:
    first = enqueue(conn, sync(scope=scope))
    assert enqueue(conn, sync(scope=scope)) == (first.id, False)
    assert lease(conn) == [first.id]
    second = enqueue(conn, sync(scope=scope))
    assert second.created == (scope == "waiting")
    end(conn, first.id)
    assert enqueue(conn, sync(scope=scope)).created == (scope == "unfinished")


@pytest.mark.parametrize("ending", ["completed", "failed", "canceled"])
def test_a_key_whose_holder_ends_meanwhile_is_free(conn: Connection, database_url: str, ending: str) -> None:
    holder = enqueue(conn, sync())
    with closing(connect(database_url)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            end(other, holder.id, ending)
            waiting = pool.submit(enqueue, conn, sync())
            with closing(connect(database_url)) as watching:
                eventually(lambda: watching.execute(WAITS_FOR_A_LOCK).fetchone() == (1,))
        assert waiting.result(20).created


def test_types_and_ways_to_make_a_key_have_keys_of_their_own(conn: Connection) -> None:
    jobs = [
        sync(), NewJob(type="other", unique=Unique(key="k")), NewJob(type="synck", unique=Unique(key="x")),
        sync({"a": "k"}, key=None, by=["a"]), sync({"a": "k", "b": 1}, key=None, by=["b"]),
    ]  # fmt: skip
    assert [enqueue(conn, job).created for job in jobs] == [True] * 5
    assert enqueue_many(conn, jobs) == 0


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "a": 1}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
        ({"a": None}, {}, True),
        ({"a": 1, "c": 1}, {"a": 1, "c": 2}, False),
    ],
)
def test_a_key_is_made_of_chosen_fields(conn: Connection, left: Any, right: Any, *, same: bool) -> None:
    enqueue(conn, sync(left, key=None, by=["a", "c"]))
    assert enqueue(conn, sync(right, key=None, by=["c", "a"])).created != same
    assert enqueue_many(conn, [sync(right, key=None, by=["a", "c"])]) == 0  # as the function makes it


def test_a_taken_key_can_be_refused_by_name(conn: Connection) -> None:
    holder = enqueue(conn, sync(on_conflict="reject"))
    with pytest.raises(Conflict, match=f"the unique key is taken by job {holder.id}"):
        enqueue(conn, sync(on_conflict="reject"))
    with pytest.raises(Conflict, match=holder.id):
        enqueue_many(conn, [NewJob(type="a"), sync(on_conflict="reject")])
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (1,)


def test_replacing_gives_a_waiting_job_new_values(conn: Connection) -> None:
    first = enqueue(conn, sync({"n": 1}, on_conflict="replace", delay=timedelta(hours=1)))
    new = NewJob(
        type="sync", payload={"n": 2}, queue="slow", priority=1, max_attempts=9,
        unique=Unique(key="k", on_conflict="replace"),
    )  # fmt: skip
    assert enqueue(conn, new) == (first.id, False)
    job = get_job(conn, first.id)
    assert (job.payload_text, job.queue, job.priority, job.max_attempts) == ('{"n": 2}', "slow", 1, 9)
    assert job.run_at == job.updated_at > job.created_at


def test_a_replaced_job_has_nothing_of_the_attempts_of_its_old_payload(conn: Connection) -> None:
    job = enqueue(conn, sync({"n": 1}))
    conn.execute(
        "UPDATE _ayb_jobs SET attempts = 2, crashes = 1, last_error = 'of n=1', progress = '{}' WHERE id = %s",
        (job.id,),
    )
    conn.execute("INSERT INTO _ayb_job_steps (job_id, name, result) VALUES (%s, 'charge', '1')", (job.id,))
    assert enqueue(conn, sync({"n": 2}, on_conflict="replace")) == (job.id, False)
    left = conn.execute("SELECT attempts, crashes, last_error, progress FROM _ayb_jobs").fetchone()
    assert left == (0, 0, None, None)
    assert conn.execute("SELECT count(*) FROM _ayb_job_steps").fetchone() == (0,)


def test_a_replaced_job_comes_under_its_limit_anew(conn: Connection) -> None:
    with conn.transaction():
        set_limit(conn, NewLimit(name="syncs", types=["sync"], key_field="n", max_running=1), by="test")
    first = enqueue(conn, sync({"n": 1}, on_conflict="replace"))
    put_under(conn, [first.id])
    assert conn.execute(UNDER).fetchone() == (6, "syncs", "1")
    enqueue(conn, sync({"n": 2}, on_conflict="replace"))
    assert conn.execute(UNDER).fetchone() == (2, None, None)
    put_under(conn, [first.id])
    assert conn.execute(UNDER).fetchone() == (6, "syncs", "2")


@pytest.mark.parametrize("commits", [True, False])
def test_a_job_that_is_leased_while_it_is_replaced_loses_no_update(
    conn: Connection, database_url: str, *, commits: bool
) -> None:
    """The new payload runs, in the job itself or in a second one."""
    enqueue(conn, sync({"n": 1}, on_conflict="replace"))
    with closing(connect(database_url)) as leasing, ThreadPoolExecutor(1) as pool:
        with leasing.transaction() as lease_of_one:
            assert len(lease(leasing)) == 1
            replacing = pool.submit(enqueue, conn, sync({"n": 2}, on_conflict="replace"))
            with closing(connect(database_url)) as watching:
                eventually(lambda: watching.execute(WAITS_FOR_A_LOCK).fetchone() == (1,))
            if not commits:
                raise psycopg.Rollback(lease_of_one)
        assert replacing.result(20).created == commits
    assert payloads(conn, "running") == ([{"n": 1}] if commits else [])
    assert payloads(conn, "queued") == [{"n": 2}]


def test_a_job_that_is_being_replaced_is_not_leased(conn: Connection, database_url: str) -> None:
    enqueue(conn, sync({"n": 1}, on_conflict="replace"))
    with closing(connect(database_url)) as replacing, replacing.transaction():
        enqueue(replacing, sync({"n": 2}, on_conflict="replace"))
        assert lease(conn) == []
    assert len(lease(conn)) == 1
    assert payloads(conn, "running") == [{"n": 2}]


def test_a_running_job_that_keeps_its_key_cannot_be_replaced(conn: Connection) -> None:
    holder = enqueue(conn, sync({"n": 1}))
    lease(conn)
    with pytest.raises(Conflict, match=f"taken by job {holder.id}, which runs and cannot be replaced"):
        enqueue(conn, sync({"n": 2}, on_conflict="replace"))
    assert payloads(conn, "running", "queued") == [{"n": 1}]


def test_ten_thousand_debounced_calls_end_at_the_longest_wait(conn: Connection) -> None:
    hour = timedelta(hours=1)

    def calls(first: int, last: int) -> None:
        conn.execute(
            """
            SELECT ayb_jobs.ayb_jobs_enqueue('sync', jsonb_build_object('n', n), delay => '1 h', unique_key => 'k',
                on_conflict => 'debounce', max_wait => '2 h')
            FROM generate_series(%s::int, %s::int) AS n
            """,
            (first, last),
        )

    def due(age: timedelta) -> timedelta:
        row = conn.execute("SELECT run_at - created_at FROM _ayb_jobs").fetchone()
        assert row is not None
        wait: timedelta = row[0]
        return wait - age

    calls(1, 5000)
    assert due(timedelta(0)) == hour
    conn.execute("UPDATE _ayb_jobs SET created_at = created_at - interval '30 min'")
    calls(5001, 5002)
    assert hour <= due(timedelta(minutes=30)) < hour + timedelta(minutes=1)
    conn.execute("UPDATE _ayb_jobs SET created_at = created_at - interval '1 hour'")
    calls(5003, 10000)
    assert due(timedelta(0)) == 2 * hour
    assert payloads(conn, "queued") == [{"n": 10000}]
    conn.execute("UPDATE _ayb_jobs SET run_at = now()")
    assert len(lease(conn)) == 1
    calls(1, 1)  # what runs is not held back: another waits its hour
    assert payloads(conn, "queued") == [{"n": 1}]


def test_one_conflict_in_many_keeps_no_other_from_being_made(conn: Connection) -> None:
    holder = enqueue(conn, sync())
    jobs = [sync(key=key) for key in ("a", "k", "b", "a")]
    assert enqueue_many(conn, [*jobs, NewJob(type="plain"), sync({"n": 1}, key="r", on_conflict="replace")]) == 4
    assert enqueue_many(conn, [sync({"n": 2}, key="r", on_conflict="replace")]) == 0
    assert {"n": 2} in payloads(conn, "queued")
    assert get_job(conn, holder.id).payload_text == "{}"


def one_by_field(number: int, on_conflict: Any) -> NewJob:
    return NewJob(type="test", payload={"x": number}, unique=Unique(by=["x"], on_conflict=on_conflict))


def one_by_key(number: int, on_conflict: Any) -> NewJob:
    return NewJob(type="test", unique=Unique(key=str(number), on_conflict=on_conflict))


@pytest.mark.parametrize("unique", [one_by_field, one_by_key])
@pytest.mark.parametrize("others", ["replace", "return", "some of each"])
def test_calls_with_the_same_keys_in_any_order_never_wait_for_each_other_in_a_circle(
    conn: Connection, database_url: str, unique: Callable[[int, Any], NewJob], others: str
) -> None:
    """None of them is a victim of a deadlock: each call replaces all jobs, or leaves out those that are there."""
    ways = {
        "replace": (["replace", "replace"], ["replace", "replace"]),
        "return": (["replace", "replace"], ["return", "return"]),
        "some of each": (["replace", "return"], ["return", "replace"]),
    }[others]

    def call(ways_and_step: tuple[Sequence[str], int]) -> None:
        ways, step = ways_and_step
        with closing(connect(database_url)) as own:
            own.execute("SET deadlock_timeout = '20ms'")
            for _ in range(15):
                with own.transaction():
                    enqueue_many(own, [unique(number, ways[number % 2]) for number in range(10)[::step]])
                own.execute(
                    "DELETE FROM _ayb_jobs WHERE unique_key IN (SELECT unique_key FROM _ayb_jobs ORDER BY 1 LIMIT 1)"
                )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, [(each, step) for each in ways for step in (1, -1)])) == [None] * 4
    assert one_row(conn.execute("SELECT count(*) FROM _ayb_jobs"))[0] <= 10


def test_a_failed_job_beside_an_active_twin_is_not_retried_and_told_of_it(conn: Connection) -> None:
    failed = enqueue(conn, sync())
    end(conn, failed.id, "failed")
    twin = enqueue(conn, sync())
    words = f"job {failed.id} has the unique key of job {twin.id}, which has not ended"
    with pytest.raises(Conflict, match=words):
        retry_job(conn, failed.id)
    with pytest.raises(psycopg.errors.UniqueViolation, match=words):
        conn.execute("SELECT ayb_jobs.ayb_jobs_retry(%s::uuid)", (failed.id,))
    end(conn, twin.id)
    assert retry_job(conn, failed.id).state == "queued"


def test_a_retry_of_a_job_that_only_waited_uniquely_never_meets_its_twin(conn: Connection) -> None:
    failed = enqueue(conn, sync(scope="waiting"))
    lease(conn)
    end(conn, failed.id, "failed")
    enqueue(conn, sync(scope="waiting"))
    assert retry_job(conn, failed.id).state == "queued"


def test_of_many_failed_jobs_with_one_key_one_is_retried(conn: Connection) -> None:
    for key in ("a", "a", "b", "c"):
        job = enqueue(conn, sync(key=key))
        end(conn, job.id, "failed")
    enqueue(conn, sync(key="b"))
    plain = make_job(conn, "failed")
    first = bulk.retry_jobs(conn, limit=4)
    assert (first.rows, bulk.retry_jobs(conn, limit=4, after=first.next).ids) == (2, [plain])
    assert len(payloads(conn, "failed")) == 2


def test_a_twin_that_comes_while_many_are_retried_stops_none_of_the_others(conn: Connection, database_url: str) -> None:
    for key in ("a", "b"):
        end(conn, enqueue(conn, sync(key=key)).id, "failed")
    with closing(connect(database_url)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            enqueue(other, sync(key="a"))
            actor = Actor(name="test")
            retrying = pool.submit(change, lambda: step(conn), BulkAction.RETRY, Filter(), actor=actor)
            with closing(connect(database_url)) as watching:
                eventually(lambda: watching.execute(WAITS_FOR_A_LOCK).fetchone() == (1,))
        assert retrying.result(20).count == 1


@contextmanager
def step(conn: Connection) -> Iterator[Connection]:
    with conn.transaction():
        yield conn


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"key": ""}, "unique_key is empty; it is required"),
    ({"key": "x" * 1001}, "unique_key has 1001 characters; at most 1000 are allowed"),
    ({"key": "k", "by": ["a"]}, "give unique_key or unique_by, not both"),
    ({"by": []}, "unique_by names no field of the payload"),
    ({"key": "k", "scope": "ever"}, "unique_scope is ever; it is unfinished or waiting"),
    ({"key": "k", "on_conflict": "merge"}, "on_conflict is merge; it is return, reject, replace or debounce"),
    (
        {"key": "k", "on_conflict": "replace", "scope": "unfinished"},
        "on_conflict replace needs the scope waiting; a job that runs cannot be replaced",
    ),
    ({"key": "k", "on_conflict": "debounce"}, "debounce needs a delay: how long to wait after the last call"),
    ({"key": "k", "on_conflict": "debounce", "max_wait": timedelta(36526)}, "max_wait is more than 100 years"),
    ({"key": "k", "max_wait": timedelta(1)}, "max_wait goes with on_conflict debounce alone"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_what_makes_no_sense_is_refused_by_python_and_sql_alike(
    conn: Connection, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput) as by_python:
        NewJob(type="sync", unique=Unique(**values))
    assert str(by_python.value) == words
    names = {"key": "unique_key", "by": "unique_by", "scope": "unique_scope"}
    arguments = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(names.get(name, name)), sql.Literal(value))
        for name, value in values.items()
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue) as by_sql:
        conn.execute(sql.SQL("SELECT ayb_jobs.ayb_jobs_enqueue('sync', {})").format(arguments))
    assert by_sql.value.diag.message_primary == words
    assert by_sql.value.diag.column_name == by_python.value.field


def test_a_unique_key_goes_with_no_idempotency_key(conn: Connection) -> None:
    with pytest.raises(InvalidInput, match="give idempotency_key or a unique key, not both"):
        NewJob(type="a", idempotency_key="i", unique=Unique(key="k"))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="not both"):
        conn.execute("SELECT ayb_jobs.ayb_jobs_enqueue('a', idempotency_key => 'i', unique_key => 'k')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="go with unique_key or unique_by"):
        conn.execute("SELECT ayb_jobs.ayb_jobs_enqueue('a', on_conflict => 'reject')")


def test_plain_jobs_are_in_no_index_of_unique_ones(conn: Connection) -> None:
    for _ in range(100):
        make_job(conn)
    enqueue(conn, sync())
    conn.execute("ANALYZE _ayb_jobs")
    row = conn.execute("SELECT reltuples FROM pg_class WHERE relname = 'idx_ayb_jobs_unique'").fetchone()
    assert row == (1,)
