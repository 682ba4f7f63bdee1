"""Asynchronous handlers at work in a daemon."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.errors import Discard, TransactionLost
from ayb_jobs.events import EventLoopBlocked, JobOverran, JobsLeased, JobsReleased, LeasesLost, LoopFailed
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.results import Cancel, Snooze
from ayb_jobs.runtime.executors.event_loop import EventLoop
from ayb_jobs.runtime.jobs.attempts import Attempts, Endings
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from tests.eventually import eventually
from tests.factories import leased_job, make_job
from tests.running import Recorder, Running, running, silent_logger

NEVER_REACHED = "postgresql://postgres@127.0.0.1:1/none"


def registry_of(run: Callable[[AsyncJobContext], Any], **options: Any) -> Registry:
    registry = Registry()
    registry.handler("test", **options)(run)
    return registry


def state_of(conn: Connection, job_id: str) -> str:
    row = conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone()
    assert row is not None
    return str(row[0])


def contains(ids: list[str], job_id: str) -> bool:
    return job_id in ids


def count(conn: Connection, state: str) -> int:
    row = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = %s", (state,)).fetchone()
    assert row is not None
    return int(row[0])


def outcomes(conn: Connection) -> list[str]:
    return [row[0] for row in conn.execute("SELECT outcome FROM _ayb_job_executions ORDER BY id")]


@pytest.mark.parametrize(
    ("payload", "state", "outcome"),
    [
        ("nothing", "completed", "completed"),
        ("count", "completed", "completed"),
        ("snooze", "queued", "snoozed"),
        ("cancel", "canceled", "canceled"),
        ("discard", "failed", "discarded"),
        ("raise", "queued", "failed"),
        ("exit", "queued", "failed"),
        ("bad", "failed", "discarded"),
        ("a result", "completed", "completed"),
        ("canceled by itself", "queued", "failed"),
    ],
)
def test_each_ending_is_settled_as_in_a_thread(
    database_url: str, conn: Connection, payload: str, state: str, outcome: str
) -> None:
    async def handle(ctx: AsyncJobContext) -> Any:
        await asyncio.sleep(0)
        match ctx.payload:
            case "count":
                return 5
            case "snooze":
                return Snooze(3600)
            case "cancel":
                return Cancel("no need")
            case "discard":
                raise Discard("never")
            case "raise":
                raise ValueError("broken")
            case "exit":
                raise SystemExit(3)
            case "a result" | "bad":
                return {"sent": True} if ctx.payload == "a result" else object()
            case "canceled by itself":
                raise asyncio.CancelledError
        return None

    job_id = make_job(conn, payload=f'"{payload}"')
    with running(database_url, registry_of(handle)) as daemon:
        eventually(lambda: outcomes(conn) == [outcome])
        assert state_of(conn, job_id) == state
    assert daemon.recorder.of(LoopFailed) == []
    records = conn.execute("SELECT records_processed FROM _ayb_job_executions").fetchone()
    assert records == (5 if payload == "count" else None,)
    kept = conn.execute("SELECT result FROM _ayb_job_results").fetchall()
    assert kept == ([({"sent": True},)] if payload == "a result" else [])


def test_a_thousand_handlers_at_once_cost_no_thread_each(database_url: str, conn: Connection) -> None:
    most = 1000
    here = 0
    all_here = asyncio.Event()

    async def meet(ctx: AsyncJobContext) -> None:
        nonlocal here
        here += 1
        if here == most:
            all_here.set()
        await all_here.wait()

    enqueue_many(conn, [NewJob(type="test") for _ in range(most)])
    before = threading.active_count()
    with running(database_url, registry_of(meet)):
        eventually(lambda: count(conn, "completed") == most)
        assert threading.active_count() - before < 30


def test_never_more_run_at_once_than_async_concurrency(database_url: str, conn: Connection) -> None:
    now, most = 0, 0

    async def counted(ctx: AsyncJobContext) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    enqueue_many(conn, [NewJob(type="test") for _ in range(50)])
    with running(database_url, registry_of(counted), async_concurrency=7):
        eventually(lambda: count(conn, "completed") == 50)
    assert most == 7


def two_kinds(plain: Callable[[JobContext], Any], waiting: Callable[[AsyncJobContext], Any]) -> Registry:
    registry = Registry()
    registry.handler("plain")(plain)
    registry.handler("async")(waiting)
    return registry


def test_slow_jobs_in_threads_keep_no_asynchronous_job_waiting(database_url: str, conn: Connection) -> None:
    done: list[str] = []
    begun: list[str] = []

    def slow(ctx: JobContext) -> None:
        begun.append(ctx.job.id)
        ctx.stopping.wait()

    async def quick(ctx: AsyncJobContext) -> None:
        done.append(ctx.job.id)

    enqueue_many(conn, [NewJob(type="plain", priority=1) for _ in range(100)])
    with running(database_url, two_kinds(slow, quick), worker_concurrency=2, poll_interval_ms=60_000):
        eventually(lambda: len(begun) == 2)
        # Ordered behind all that wait for a thread, and enqueued while these are: a NOTIFY must be enough.
        for _ in range(3):
            made = enqueue(conn, NewJob(type="async", priority=4))
            eventually(partial(contains, done, made.id), within_s=5)
        assert len(begun) == 2


def test_slow_asynchronous_jobs_keep_no_thread_waiting(database_url: str, conn: Connection) -> None:
    done: list[str] = []

    async def slow(ctx: AsyncJobContext) -> None:
        await ctx.stopping.wait()

    enqueue_many(conn, [NewJob(type="async", priority=1) for _ in range(100)])
    registry = two_kinds(lambda ctx: done.append(ctx.job.id), slow)
    with running(database_url, registry, async_concurrency=3, poll_interval_ms=60_000):
        eventually(lambda: count(conn, "running") == 3)
        for _ in range(3):
            made = enqueue(conn, NewJob(type="plain", priority=4))
            eventually(partial(contains, done, made.id), within_s=5)
        eventually(lambda: count(conn, "running") == 3)  # a handler has ended before its ending is written


def test_a_job_that_waited_for_a_place_starts_once_one_is_free(database_url: str, conn: Connection) -> None:
    ends: dict[str, asyncio.Event] = {}
    loops: list[asyncio.AbstractEventLoop] = []

    async def wait(ctx: AsyncJobContext) -> None:
        ends[ctx.job.id] = asyncio.Event()
        loops.append(asyncio.get_running_loop())
        await ends[ctx.job.id].wait()

    first = enqueue(conn, NewJob(type="test")).id
    second = enqueue(conn, NewJob(type="test")).id
    with running(database_url, registry_of(wait), async_concurrency=1, poll_interval_ms=60_000):
        eventually(lambda: first in ends)
        loops[0].call_soon_threadsafe(ends[first].set)
        eventually(lambda: second in ends, within_s=5)
        loops[0].call_soon_threadsafe(ends[second].set)
        eventually(lambda: count(conn, "completed") == 2)


def test_short_handlers_are_leased_ahead_of_their_places(database_url: str, conn: Connection) -> None:
    async def short(ctx: AsyncJobContext) -> None: ...

    enqueue_many(conn, [NewJob(type="test") for _ in range(200)])
    with running(database_url, registry_of(short), async_concurrency=2, poll_interval_ms=60_000) as daemon:
        eventually(lambda: count(conn, "completed") == 200)
        assert max(len(event.jobs) for event in daemon.recorder.of(JobsLeased)) > 2


def test_what_was_leased_ahead_goes_back_if_no_place_becomes_free(database_url: str, conn: Connection) -> None:
    slow: list[str] = []

    async def handle(ctx: AsyncJobContext) -> None:
        if ctx.payload == "slow":
            slow.append(ctx.job.id)
            await ctx.stopping.wait()

    enqueue_many(conn, [NewJob(type="test", payload="slow" if number == 50 else "short") for number in range(200)])
    with running(database_url, registry_of(handle), async_concurrency=1, poll_interval_ms=60_000) as daemon:
        eventually(lambda: slow)
        eventually(lambda: count(conn, "running") == 1)
        eventually(lambda: daemon.recorder.of(JobsReleased))
        assert conn.execute("SELECT max(attempts) FROM _ayb_jobs WHERE state = 'queued'").fetchone() == (0,)


def test_what_waits_for_a_place_as_the_daemon_stops_never_runs_and_goes_back(
    database_url: str, conn: Connection
) -> None:
    begun: list[str] = []

    async def handle(ctx: AsyncJobContext) -> None:
        begun.append(ctx.job.id)
        if ctx.payload == "slow":
            await ctx.stopping.wait()

    enqueue_many(conn, [NewJob(type="test", payload="slow" if number == 50 else "short") for number in range(200)])
    with running(database_url, registry_of(handle), async_concurrency=1, poll_interval_ms=60_000) as daemon:
        eventually(lambda: len(begun) == 51)
        assert daemon.daemon.stop() == 0
    assert len(begun) == 51
    assert count(conn, "completed") == 51
    assert count(conn, "queued") == 149


def test_what_one_handler_sets_in_its_context_no_other_sees(database_url: str, conn: Connection) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    async def handle(ctx: AsyncJobContext) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.job.id)
        await asyncio.sleep(0.01)
        assert tenant.get() == ctx.job.id
        async with asyncio.TaskGroup() as group:
            group.create_task(inner(ctx))

    async def inner(ctx: AsyncJobContext) -> None:
        assert tenant.get() == ctx.job.id

    for _ in range(5):
        make_job(conn)
    with running(database_url, registry_of(handle)):
        eventually(lambda: count(conn, "completed") == 5)
    assert seen == ["nobody"] * 5


def test_a_handler_past_its_timeout_is_canceled_at_once(database_url: str, conn: Connection) -> None:
    cleaned: list[str | None] = []

    async def late(ctx: AsyncJobContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(ctx.stop_reason)

    job_id = make_job(conn, max_attempts=1)
    with running(database_url, registry_of(late, timeout_s=0.2)) as daemon:
        eventually(lambda: state_of(conn, job_id) == "failed")
        assert [event.abandoned for event in daemon.recorder.of(JobOverran)] == [False]
    assert cleaned == ["timeout"]
    assert outcomes(conn) == ["timed_out"]
    (took_ms,) = conn.execute(
        "SELECT extract(epoch FROM ended_at - started_at) * 1000 FROM _ayb_job_executions"
    ).fetchone() or (0,)
    assert 190 < took_ms < 1000


def test_a_handler_that_ends_well_although_it_is_canceled_has_completed(database_url: str, conn: Connection) -> None:
    async def stubborn(ctx: AsyncJobContext) -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 1
        return 2

    job_id = make_job(conn)
    with running(database_url, registry_of(stubborn, timeout_s=0.1)):
        eventually(lambda: state_of(conn, job_id) == "completed")
    assert outcomes(conn) == ["completed"]


def test_a_timeout_of_the_handlers_own_is_its_own(database_url: str, conn: Connection) -> None:
    async def patient(ctx: AsyncJobContext) -> int:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return 1
        return 2

    job_id = make_job(conn)
    with running(database_url, registry_of(patient, timeout_s=30)):
        eventually(lambda: state_of(conn, job_id) == "completed")
    assert conn.execute("SELECT records_processed FROM _ayb_job_executions").fetchone() == (1,)


def test_a_handler_is_canceled_once_its_lease_is_lost(database_url: str, conn: Connection) -> None:
    reasons: list[str | None] = []

    async def patient(ctx: AsyncJobContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            reasons.append(ctx.stop_reason)

    job_id = make_job(conn)
    with running(database_url, registry_of(patient), lease_duration_s=1) as daemon:
        eventually(lambda: state_of(conn, job_id) == "running")
        conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid(), lease_until = now() + interval '1 hour'")
        eventually(lambda: reasons == ["lease_lost"])
        eventually(lambda: daemon.recorder.of(LeasesLost))
    assert state_of(conn, job_id) == "running"
    assert outcomes(conn) == []


def test_a_shutdown_lets_handlers_end_by_themselves(database_url: str, conn: Connection) -> None:
    async def obedient(ctx: AsyncJobContext) -> None:
        await ctx.stopping.wait()
        await asyncio.sleep(0.05)

    job_id = make_job(conn)
    with running(database_url, registry_of(obedient), shutdown_timeout_s=10) as daemon:
        eventually(lambda: state_of(conn, job_id) == "running")
        assert daemon.daemon.stop() == 0
    assert state_of(conn, job_id) == "completed"


def test_what_a_shutdown_cancels_is_given_back_with_its_attempt(database_url: str, conn: Connection) -> None:
    begun: list[str] = []

    async def slow(ctx: AsyncJobContext) -> None:
        begun.append(ctx.job.id)
        await asyncio.sleep(60)

    job_id = make_job(conn, max_attempts=1)
    with running(database_url, registry_of(slow), shutdown_timeout_s=0.2) as daemon:
        eventually(lambda: begun)
        assert daemon.daemon.stop() == 0
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == ("queued", 0)
    assert outcomes(conn) == []


def test_a_handler_that_lets_itself_not_be_canceled_keeps_its_job_until_the_process_ends(
    database_url: str, conn: Connection
) -> None:
    deaf_for_s = 3.0  # longer than a stop waits for what it has canceled
    begun: list[float] = []

    async def deaf(ctx: AsyncJobContext) -> None:
        begun.append(time.monotonic())
        while (left_s := begun[0] + deaf_for_s - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left_s)

    job_id = make_job(conn)
    with running(database_url, registry_of(deaf), shutdown_timeout_s=0.1) as daemon:
        eventually(lambda: begun)
        assert daemon.daemon.stop() == 1
    assert state_of(conn, job_id) == "running"


def test_a_handler_that_blocks_the_loop_is_named_with_its_line(database_url: str, conn: Connection) -> None:
    async def block(ctx: AsyncJobContext) -> None:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            pass

    job_id = make_job(conn)
    with running(database_url, registry_of(block)) as daemon:
        eventually(lambda: state_of(conn, job_id) == "completed")
        (told,) = eventually(lambda: daemon.recorder.of(EventLoopBlocked))
    assert told.job is not None
    assert (told.job.id, told.job.type) == (job_id, "test")
    assert "test_event_loop.py" in told.where
    assert told.where.endswith("in block")
    assert 0.1 <= told.seconds < 0.5


def test_many_short_steps_in_one_turn_of_the_loop_are_nobodys_fault(database_url: str, conn: Connection) -> None:
    async def share(ctx: AsyncJobContext) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            began = time.monotonic()
            while time.monotonic() - began < 0.002:
                pass

    enqueue_many(conn, [NewJob(type="test") for _ in range(150)])
    with running(database_url, registry_of(share)) as daemon:
        eventually(lambda: count(conn, "completed") == 150)
        assert daemon.recorder.of(EventLoopBlocked) == []


def test_a_connection_is_lent_for_one_transaction(database_url: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE things (id text)")
    refused: list[str] = []

    async def write(ctx: AsyncJobContext) -> None:
        async with ctx.connection() as mine:
            await mine.execute("INSERT INTO things VALUES ('kept')")
        with suppress(ValueError):
            async with ctx.connection() as mine:
                await mine.execute("INSERT INTO things VALUES ('rolled back')")
                raise ValueError("no")
        try:
            async with ctx.connection() as mine:
                await mine.execute("INSERT INTO things VALUES ('committed by itself')")
                await mine.execute("COMMIT")
        except TransactionLost:
            refused.append("COMMIT")
        async with ctx.connection_without_transaction() as mine:
            await mine.execute("INSERT INTO things VALUES ('by itself')")
            raise ValueError("after")

    job_id = make_job(conn, max_attempts=1)
    with running(database_url, registry_of(write)):
        eventually(lambda: state_of(conn, job_id) == "failed")
    assert {row[0] for row in conn.execute("SELECT id FROM things")} == {"kept", "committed by itself", "by itself"}
    assert refused == ["COMMIT"]
    (error,) = conn.execute("SELECT last_error FROM _ayb_jobs").fetchone() or ("",)
    assert "ValueError: after" in error


def test_a_transaction_completes_the_job_with_its_work(database_url: str, conn: Connection) -> None:
    conn.execute("CREATE TABLE things (id text)")

    async def write(ctx: AsyncJobContext) -> None:
        ctx.records_processed = 3
        async with ctx.transaction() as mine:
            await mine.execute("INSERT INTO things VALUES (%s)", (ctx.job.id,))
        assert ctx.settled
        raise ValueError("counts no longer")

    job_id = make_job(conn)
    with running(database_url, registry_of(write)):
        eventually(lambda: state_of(conn, job_id) == "completed")
    assert conn.execute("SELECT id FROM things").fetchall() == [(job_id,)]
    assert conn.execute("SELECT outcome, records_processed FROM _ayb_job_executions").fetchall() == [("completed", 3)]


def test_progress_is_awaited_and_shows(database_url: str, conn: Connection) -> None:
    async def tell(ctx: AsyncJobContext) -> None:
        await ctx.progress(7, "half")
        await ctx.stopping.wait()

    job_id = make_job(conn)
    with running(database_url, registry_of(tell)):
        told = {"records_processed": 7, "message": "half"}
        eventually(
            lambda: conn.execute("SELECT progress FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == (told,)
        )


def test_a_large_payload_is_fetched_without_blocking_the_loop(database_url: str, conn: Connection) -> None:
    sizes: list[int] = []

    async def measure(ctx: AsyncJobContext) -> None:
        sizes.append(len(ctx.payload["text"]))

    enqueue(conn, NewJob(type="test", payload={"text": os.urandom(100_000).hex()}))
    with running(database_url, registry_of(measure)):
        eventually(lambda: count(conn, "completed") == 1)
    assert sizes == [200_000]


def test_a_child_that_a_handler_forks_ends_there(database_url: str, conn: Connection) -> None:
    children: list[int] = []

    async def fork(ctx: AsyncJobContext) -> None:
        child = os.fork()
        if child == 0:
            await asyncio.sleep(0)  # comes back to the loop, in the child
            return
        children.append(child)

    job_id = make_job(conn)
    with running(database_url, registry_of(fork)):
        eventually(lambda: state_of(conn, job_id) == "completed")
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert outcomes(conn) == ["completed"]


def test_a_task_of_a_handlers_own_that_exits_ends_no_loop(database_url: str, conn: Connection) -> None:
    async def leave_a_task(ctx: AsyncJobContext) -> None:
        async def leave() -> None:
            raise SystemExit(1)

        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait([task])

    async def fine(ctx: AsyncJobContext) -> None: ...

    registry = registry_of(leave_a_task)
    registry.handler("fine")(fine)
    make_job(conn)
    with running(database_url, registry):
        eventually(lambda: count(conn, "completed") == 1)
        enqueue(conn, NewJob(type="fine"))
        eventually(lambda: count(conn, "completed") == 2)


class Surroundings:
    """A daemon with one place for an asynchronous handler, what surrounds it failing once with `error`."""

    def __init__(self, daemon: Running, error: BaseException) -> None:
        self.recorder = daemon.recorder
        self.loop = daemon.daemon._parts.executors.event_loop
        self.attempts = daemon.daemon._parts.attempts
        self.errors = [error]

    def fail_at(self, place: object, name: str) -> None:
        """Have a method fail as it is called next."""
        method = getattr(place, name)

        def fail_once(*args: Any, **kwargs: Any) -> Any:
            if self.errors:
                raise self.errors.pop()
            return method(*args, **kwargs)

        setattr(place, name, fail_once)


# Where it fails: of what, which method, and whether the handler has begun by then.
PLACES: dict[str, tuple[Callable[[Surroundings], Any], str, bool]] = {
    "find": (lambda around: around.loop, "_find", False),
    "begin": (lambda around: around.attempts, "begin", False),
    "the task": (lambda around: around.loop and around.loop._loop, "create_task", False),
    "settle": (lambda around: around.attempts, "_settle", True),
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("error", [KeyError("test"), MemoryError()])
@pytest.mark.parametrize("place", PLACES)
def test_a_failure_around_a_handler_drops_no_job_and_no_place(
    database_url: str, conn: Connection, place: str, error: BaseException
) -> None:
    async def handle(ctx: AsyncJobContext) -> None:
        await asyncio.sleep(0)

    owner, name, has_begun = PLACES[place]
    counts = has_begun or not isinstance(error, MemoryError)
    with running(database_url, registry_of(handle), async_concurrency=1) as daemon:
        around = Surroundings(daemon, error)
        around.fail_at(owner(around), name)
        for _ in range(3):
            make_job(conn)
        eventually(lambda: count(conn, "completed") == 3, within_s=30)
        eventually(lambda: around.loop is not None and around.loop.running() == 0)
    assert [(event.loop, event.error) for event in daemon.recorder.of(LoopFailed)] == [("event loop", error)]
    assert outcomes(conn).count("failed") == counts
    assert conn.execute("SELECT max(attempts) FROM _ayb_jobs").fetchall() == [(2 if counts else 1,)]


def test_a_task_that_is_canceled_before_it_begins_gives_its_job_back() -> None:
    released: list[Held] = []
    database = Database(NEVER_REACHED)
    loop = EventLoop(
        concurrency=1,
        find=lambda _: None,
        attempts=Attempts(
            services=ContextServices(database=database, lease_s=60, logger=silent_logger()),
            backoff=Backoff(),
            endings=Endings(settle=lambda _, __: None, release=released.append),
        ),
        payloads=Payloads(database=database),
        database=AsyncDatabase(NEVER_REACHED, work_connections=1, timeouts=Timeouts()),
        emit=Recorder(),
        on_room=lambda: None,
        on_work=lambda: None,
    )
    held = Held(leased_job(), time.monotonic())
    loop.put([held])
    loop.cancel_all()
    loop.start()
    eventually(lambda: released == [held])
    eventually(lambda: loop.running() == 0)
    loop.stop()
