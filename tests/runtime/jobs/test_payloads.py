"""Large payloads are leased without their text, and held only as far as a budget allows."""

import threading

import pytest
from psycopg import sql

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.runtime.jobs import payloads
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import LONGEST_LEASED_PAYLOAD, lease_jobs
from tests.eventually import eventually
from tests.factories import make_job, payload_bomb
from tests.running import running

LANES = [Lane("default", 2)]
MB = 1024 * 1024


def of_size(size: int) -> sql.SQL:
    """Return a payload that is a text of so many bytes, and takes up a hundredth of that as stored."""
    return sql.SQL(f"to_jsonb(repeat('x', {size:d}))")


def random_of_size(size: int) -> sql.SQL:
    """Return a payload that no compression makes smaller."""
    return sql.SQL(f"(SELECT to_jsonb(string_agg(md5(random()::text), '')) FROM generate_series(1, {size // 32:d}))")


def lease(conn: Connection) -> list[LeasedJob]:
    return lease_jobs(conn, worker_id="w", lanes=LANES, types=["test"], limit=500, lease_s=60)


@pytest.mark.parametrize(
    "payload",
    [of_size(20_000), of_size(30 * MB), random_of_size(40_000), payload_bomb(600)],
    ids=["long", "huge", "incompressible", "bomb"],
)
def test_leasing_answers_with_little_text_however_large_a_payload_is(conn: Connection, payload: sql.SQL) -> None:
    make_job(conn, payload=payload)
    (job,) = lease(conn)
    assert len(job.payload_text or "") <= LONGEST_LEASED_PAYLOAD + 1
    assert Payloads.are_left(job)


@pytest.mark.parametrize("size", [10, 2_000, 5_000, 16_000])
def test_a_usual_payload_comes_with_its_lease(conn: Connection, size: int) -> None:
    make_job(conn, payload=of_size(size))
    (job,) = lease(conn)
    assert not Payloads.are_left(job)
    assert job.payload_text == f'"{"x" * size}"'


def test_handlers_get_large_payloads_whole_and_never_more_together_than_the_budget(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads.Payloads.__init__, "__kwdefaults__", {"budget_bytes": 9 * MB})
    registry = Registry()
    lock, now, most, seen = threading.Lock(), 0, 0, []

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            seen.append(len(ctx.payload))
        ctx.stopping.wait(0.5)
        with lock:
            now -= 1

    for _ in range(6):
        make_job(conn, payload=of_size(4 * MB))
    with running(database_url, registry, worker_concurrency=6):
        eventually(lambda: conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("completed",)])
    assert seen == [4 * MB] * 6
    assert most <= 2


def test_a_large_payload_is_not_fetched_before_there_is_room(conn: Connection, db: Database) -> None:
    for _ in range(3):
        make_job(conn, payload=of_size(4 * MB))
    first, second, third = lease(conn)
    fetching = Payloads(database=db, budget_bytes=9 * MB)
    held = [fetching.fetch(job, lambda: False) for job in (first, second)]
    looks: list[bool] = []

    def give_up() -> bool:
        looks.append(True)
        return len(looks) > 1

    assert fetching.fetch(third, give_up) is None
    assert len(looks) == 2
    assert held[0] is not None
    fetching.put_back(held[0])
    fetched = fetching.fetch(third, lambda: False)
    assert fetched is not None
    assert len(fetched.job.payload_text or "") == 4 * MB + 2


def test_a_payload_that_nobody_could_use_fails_its_job_alone(database_url: str, conn: Connection) -> None:
    registry = Registry()
    registry.handler("test")(lambda ctx: len(str(ctx.payload)))
    bad = make_job(conn, payload=of_size(70 * MB))
    good = [make_job(conn, payload=of_size(size)) for size in (1, 100_000, 3 * MB)]
    with running(database_url, registry):
        eventually(lambda: state(conn, bad) == "failed")
        eventually(lambda: {state(conn, job_id) for job_id in good} == {"completed"})
    (error,) = conn.execute("SELECT last_error FROM _ayb_jobs WHERE id = %s", (bad,)).fetchone() or ()
    assert error == "the payload cannot be decoded: it is too large as text"


def test_a_job_that_waits_for_room_is_given_back_at_a_stop(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads.Payloads.__init__, "__kwdefaults__", {"budget_bytes": 5 * MB})
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        ctx.stopping.wait(30)

    for _ in range(2):
        make_job(conn, payload=of_size(4 * MB))
    with running(database_url, registry, worker_concurrency=2) as daemon:
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'running'").fetchone() == (2,))
        eventually(daemon.daemon._parts.in_flight.running)
        assert daemon.daemon.stop() == 0
    rows = conn.execute("SELECT state, attempts FROM _ayb_jobs ORDER BY state").fetchall()
    assert rows == [("completed", 1), ("queued", 0)]


def test_a_lost_lease_is_noticed_before_the_payload_is_used(conn: Connection, db: Database) -> None:
    make_job(conn, payload=of_size(2 * MB))
    (job,) = lease(conn)
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    assert Payloads(database=db).fetch(job, lambda: False) is None


def state(conn: Connection, job_id: str) -> str:
    row = conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone()
    return str(row and row[0])
