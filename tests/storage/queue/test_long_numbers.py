"""Payloads whose numbers are a few bytes as stored, and a hundred thousand digits as text."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.payload import decode_payload
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.limited import lease_limited
from tests import sql_workers
from tests.eventually import eventually
from tests.factories import make_job, payload_bomb
from tests.running import running

BAD, GOOD = 300, 20
# Long numbers cost a look that writes them a hundred times what it costs as a whole, or more.
TIMES = 25
INSERT = """
    INSERT INTO _ayb_jobs (type, payload, run_at)
    SELECT 'test', {payload}, now() - (1000 - number) * interval '1 second' FROM generate_series({first}, {last}) AS number
"""
LANES = [Lane("default", 2)]
CALL: dict[str, Any] = {"worker_id": "w", "lanes": LANES, "types": ["test"], "limit": BAD + GOOD, "lease_s": 60}

Look = Callable[[Connection], Sequence[Any]]


def plain(conn: Connection) -> Sequence[Any]:
    return lease_jobs(conn, **CALL)


def with_care(conn: Connection) -> Sequence[Any]:
    with conn.transaction():
        return lease_jobs(conn, **CALL)


def by_turn(conn: Connection) -> Sequence[Any]:
    return lease_jobs(conn, **CALL, by_turn=True)


def beside_limits(conn: Connection) -> Sequence[Any]:
    return lease_beside_limits(conn, **CALL).leased


def under_a_limit(conn: Connection) -> Sequence[Any]:
    return lease_limited(
        conn, "few", room=BAD + GOOD, types=["test"], queues=["default"], worker_id="w", lease_s=60
    ).leased


def by_sql(conn: Connection) -> Sequence[Any]:
    return sql_workers.lease(conn, n=BAD + GOOD)


def prepare(conn: Connection, payload: sql.SQL, *, limited: bool) -> None:
    conn.execute("DELETE FROM _ayb_jobs")
    for value, first, last in ((payload, 1, BAD), (sql.SQL("'{\"n\": 1}'"), BAD + 1, BAD + GOOD)):
        conn.execute(sql.SQL(INSERT).format(payload=value, first=first, last=last))
    if limited:
        lease_beside_limits(conn, **CALL)


@pytest.mark.parametrize("look", [plain, with_care, by_turn, beside_limits, under_a_limit, by_sql])
def test_a_look_writes_no_long_numbers_and_leases_what_is_behind_them_in_its_turn(conn: Connection, look: Look) -> None:
    limited = look is under_a_limit
    if limited:
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1000), by="ada")

    def fastest(payload: sql.SQL) -> float:
        took: list[float] = []
        for _ in range(2):
            prepare(conn, payload, limited=limited)
            began = time.perf_counter()
            jobs = look(conn)
            took.append(time.perf_counter() - began)
            texts = [job.payload if look is by_sql else job.payload_text for job in jobs]
            assert texts[-GOOD:] == ['{"n": 1}'] * GOOD
        return min(took)

    usual = fastest(sql.SQL("to_jsonb(repeat('x', 200))"))
    assert fastest(payload_bomb(20)) < TIMES * usual


@pytest.mark.parametrize(
    ("number", "is_long"),
    [
        ("1e101", True),
        ("-1e131071", True),
        ("1e-16383", True),
        ("0e-16383", True),
        ("5." + "0" * 200, True),
        ("-7." + "1" * 200, True),
        ("1e99", False),
        ("-1e99", False),
        ("1e-99", False),
        ("0", False),
        ("5." + "0" * 90, False),
        ("-123456789.123456789", False),
        ('"1e131071"', False),
        ("null", False),
    ],
)
@pytest.mark.parametrize("around", ["[{}]", '{{"a": {{"b": [["c", {{"d": {}}}]]}}}}'])
def test_a_number_that_is_long_before_or_behind_its_point_is_found_wherever_it_stands(
    conn: Connection, number: str, is_long: bool, around: str
) -> None:
    judged = "SELECT _ayb_job_has_long_numbers(jsonb_build_array(repeat('x', 3000), %s::jsonb))"
    assert conn.execute(judged, (around.format(number),)).fetchone() == (is_long,)


@pytest.mark.parametrize("number", ["1e131071", "-1e131071", "0e-16383", "1e-16383"])
def test_json_of_many_long_numbers_is_too_large_as_text(conn: Connection, number: str) -> None:
    text = "SELECT _ayb_job_text(('[' || repeat(%s || ',', %s) || '1]')::jsonb)"
    assert conn.execute(text, (number, 1000)).fetchone() == (None,)
    (few,) = conn.execute(text, (number, 3)).fetchone() or ("",)
    assert len(few) > 3 * 16_000


def test_jobs_with_long_numbers_fail_clearly_and_others_run(database_url: str, conn: Connection) -> None:
    registry = Registry()
    registry.handler("test")(lambda ctx: len(str(ctx.payload)))
    for payload in (payload_bomb(1300), payload_bomb(7), sql.SQL("'{\"n\": 1e5000}'")):
        for _ in range(10):
            make_job(conn, payload=payload)
    for _ in range(GOOD):
        make_job(conn, payload={"n": 1})
    with running(database_url, registry):
        eventually(lambda: counted(conn) == {"failed": 30, "completed": GOOD}, within_s=60)
    errors = [error for (error,) in conn.execute("SELECT DISTINCT last_error FROM _ayb_jobs WHERE state = 'failed'")]
    assert all(error.startswith("the payload cannot be decoded: ") and len(error) < 300 for error in errors)
    attempts = conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs WHERE state = 'failed'")
    assert attempts.fetchall() == [(1,)]


def counted(conn: Connection) -> dict[str, int]:
    return dict(conn.execute("SELECT state, count(*) FROM _ayb_jobs GROUP BY state").fetchall())


def test_a_few_long_numbers_reach_a_handler(conn: Connection) -> None:
    make_job(conn, payload=sql.SQL("jsonb_build_array(repeat('x', 100), '1e4000'::jsonb)"))
    text = conn.execute("SELECT _ayb_job_text(payload) FROM _ayb_jobs").fetchone()
    assert text is not None
    assert decode_payload(text[0]) == ["x" * 100, 10**4000]
