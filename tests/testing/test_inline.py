"""Jobs that a test runs itself end as they do in a daemon, and what waits can be looked at on any connection."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from ayb_jobs import AsyncJobContext, Cancel, Discard, JobContext, NewJob, Registry, Snooze, batch, enqueue
from ayb_jobs.errors import Conflict, InvalidInput, LeaseLost
from ayb_jobs.storage.database import Connection
from ayb_jobs.testing import assert_enqueued, drain, enqueued, make_due, run_job
from tests.client.connections import SYNC, Rollback, calling
from tests.factories import make_job


def registered(**handlers: Callable[..., Any]) -> Registry:
    registry = Registry()
    for name, run in handlers.items():
        registry.handler(name)(run)
    return registry


def raising(error: BaseException) -> Callable[[JobContext], None]:
    def run(_: JobContext) -> None:
        raise error

    return run


def test_draining_runs_what_is_due_in_the_daemons_order_and_what_that_makes_due(
    database_url: str, conn: Connection
) -> None:
    order: list[str] = []

    def first(ctx: JobContext) -> None:
        order.append(ctx.payload["name"])
        with ctx.connection() as own:
            enqueue(own, NewJob(type="second", queue="other", priority=1))

    registry = registered(first=first, second=lambda _: order.append("second"))
    make_job(conn, type="first", payload={"name": "a"})
    make_job(conn, type="first", payload={"name": "b" * 40_000}, priority=1)
    make_job(conn, type="unknown")
    ran = drain(database_url, registry)
    assert order == ["b" * 40_000, "second", "a", "second"]
    logged = conn.execute("SELECT job_id::text, job_type, outcome FROM _ayb_job_executions ORDER BY id").fetchall()
    assert logged == [(one.id, one.type, "completed") for one in ran]
    assert [job.type for job in enqueued(conn)] == ["unknown"]


def test_only_the_given_queues_are_drained(database_url: str, conn: Connection) -> None:
    make_job(conn, type="mail", queue="a")
    make_job(conn, type="mail", queue="b")
    assert len(drain(database_url, registered(mail=lambda _: None), queues=["a"])) == 1
    assert [job.queue for job in enqueued(conn)] == ["b"]


@pytest.mark.parametrize(
    ("handler", "outcome", "state"),
    [
        (lambda _: {"a": 1}, "completed", "completed"),
        (lambda _: Snooze(60), "snoozed", "queued"),
        (lambda _: Cancel("why"), "canceled", "canceled"),
        (lambda _: {1, 2}, "discarded", "failed"),
        (raising(Discard("why")), "discarded", "failed"),
        (raising(KeyError("why")), "failed", "queued"),
        (raising(SystemExit("why")), "failed", "queued"),
    ],
)
def test_each_ending_is_that_of_the_daemon(
    database_url: str, conn: Connection, handler: Callable[..., Any], outcome: str, state: str
) -> None:
    job_id = make_job(conn, type="mail")
    [ran] = drain(database_url, registered(mail=handler))
    assert (ran.id, ran.outcome) == (job_id, outcome)
    assert (ran.error is None) == (outcome in {"completed", "snoozed"})
    row = conn.execute("SELECT job.state, outcome FROM _ayb_jobs AS job JOIN _ayb_job_executions ON job_id = job.id")
    assert row.fetchall() == [(state, outcome)]


def test_a_handler_that_is_stopped_gives_its_job_back(database_url: str, conn: Connection) -> None:
    stopped: list[int] = []

    def mail(ctx: JobContext) -> None:
        stopped.append(ctx.attempt)
        if len(stopped) == 1:
            ctx.stop("shutdown")
            ctx.check()

    make_job(conn, type="mail")
    assert [one.outcome for one in drain(database_url, registered(mail=mail))] == ["released", "completed"]
    assert stopped == [1, 1]


def test_a_failed_attempt_is_tried_again_once_it_is_made_due(database_url: str, conn: Connection) -> None:
    registry = registered(mail=raising(ConnectionError("no route")))
    make_job(conn, type="mail", max_attempts=2)
    assert [one.attempt for one in drain(database_url, registry)] == [1]
    assert drain(database_url, registry) == []
    assert (make_due(conn, "other"), make_due(conn, "mail")) == (0, 1)
    [ran] = drain(database_url, registry)
    assert (ran.attempt, type(ran.raised)) == (2, ConnectionError)
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("failed",)


def test_what_is_made_due_still_waits_for_what_it_depends_on(database_url: str, conn: Connection) -> None:
    first = make_job(conn, type="mail", payload={"n": 1}, run_at=sql.SQL("now() + interval '1 hour'"), priority=4)
    enqueue(conn, NewJob(type="mail", payload={"n": 2}, priority=1, delay=timedelta(hours=1), depends_on=[first]))
    assert make_due(conn) == 2
    assert [ran.payload["n"] for ran in drain(database_url, registered(mail=lambda _: None))] == [1, 2]


def test_the_callbacks_of_a_batch_run_once_its_jobs_have_ended(database_url: str, conn: Connection) -> None:
    with batch(conn, on_done=NewJob(type="mail", payload={"n": 3}, priority=1)) as one:
        one.enqueue_many([NewJob(type="mail", payload={"n": n}) for n in (1, 2)])
    assert [ran.payload["n"] for ran in drain(database_url, registered(mail=lambda _: None))] == [1, 2, 3]


def test_a_handler_completes_its_job_in_its_own_transaction(database_url: str, conn: Connection) -> None:
    def pay(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute("CREATE TABLE paid ()")

    make_job(conn, type="pay")
    assert [one.outcome for one in drain(database_url, registered(pay=pay))] == ["completed"]


def test_a_job_that_is_taken_away_meanwhile_is_told(database_url: str, conn: Connection) -> None:
    make_job(conn, type="mail")
    taken = "UPDATE _ayb_jobs SET lease_id = gen_random_uuid()"
    with pytest.raises(LeaseLost):
        drain(database_url, registered(mail=lambda _: bool(conn.execute(taken))))


def test_jobs_without_end_are_told(database_url: str, conn: Connection) -> None:
    make_job(conn, type="mail")
    with pytest.raises(InvalidInput, match="3 jobs have run and more are due"):
        drain(database_url, registered(mail=lambda _: Snooze(0)), most=3)
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs").fetchone() == ("queued", 3)


async def add(ctx: AsyncJobContext) -> int:
    async with ctx.connection() as own:
        row = await (await own.execute("SELECT %s + 1", (ctx.payload["n"],))).fetchone()
    await asyncio.sleep(0)
    step = await ctx.step("one", lambda: asyncio.sleep(0, 10))
    assert row is not None
    return int(row[0]) + int(step)


def test_one_job_is_run_and_its_handlers_answer_returned(database_url: str, conn: Connection) -> None:
    registry = registered(add=add)
    job = registry.new_job("add", {"n": 1}, delay=timedelta(hours=1))
    assert run_job(database_url, registry, job) == 12
    assert conn.execute("SELECT outcome, records_processed FROM _ayb_job_executions").fetchall() == [("completed", 12)]


def test_one_jobs_handler_raises_to_the_test(database_url: str, conn: Connection) -> None:
    with pytest.raises(KeyError, match="why"):
        run_job(database_url, registered(mail=raising(KeyError("why"))), NewJob(type="mail"))
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [("failed",)]


def test_a_job_that_cannot_be_run_says_why(database_url: str, conn: Connection) -> None:
    registry = registered(mail=lambda _: None)
    with pytest.raises(InvalidInput, match="there is no job type mial; did you mean mail"):
        run_job(database_url, registry, NewJob(type="mial"))
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('type', 'mail', 'me')")
    with pytest.raises(Conflict, match="is paused"):
        run_job(database_url, registry, NewJob(type="mail"))
    conn.execute("DELETE FROM _ayb_job_pauses")
    make_job(conn, "completed", type="mail", idempotency_key="k")
    with pytest.raises(Conflict, match="an earlier job has its key"):
        run_job(database_url, registry, NewJob(type="mail", idempotency_key="k"))


def test_an_async_handler_on_a_loop_that_runs_says_what_to_call(database_url: str) -> None:
    registry = registered(add=add)

    async def test() -> None:
        with pytest.raises(InvalidInput, match=r"asyncio\.to_thread"):
            run_job(database_url, registry, NewJob(type="add", payload={"n": 1}))

    asyncio.run(test())


@pytest.mark.parametrize("driver", SYNC)
def test_what_waits_is_seen_in_the_transaction_that_makes_it(driver: str, database_url: str) -> None:
    def calls(on: Any) -> None:
        made = on.enqueue(NewJob(type="mail", payload={"to": "a", "n": 1.5}, queue="mail", delay=timedelta(hours=1)))
        assert [job.id for job in enqueued(on.conn, "mail")] == [made.id]
        assert assert_enqueued(on.conn, "mail", {"to": "a"}, queue="mail").id == made.id
        for wrong in ({"to": "b"}, {"to": "a", "x": 1}):
            with pytest.raises(AssertionError, match=r'these are:\n  mail \{"n":1.5,"to":"a"\} in queue mail'):
                assert_enqueued(on.conn, "mail", wrong)
        with pytest.raises(AssertionError, match="no job mail, priority 1 is enqueued"):
            assert_enqueued(on.conn, "mail", priority=1)
        assert make_due(on.conn) == 1
        raise Rollback

    calling(driver, database_url, calls)


def test_a_field_that_no_job_has_is_named(conn: Connection) -> None:
    with pytest.raises(InvalidInput, match="a waiting job has no state"):
        assert_enqueued(conn, "mail", state="queued")
    with pytest.raises(AssertionError, match="no job mail is enqueued; nothing is"):
        assert_enqueued(conn, "mail")
