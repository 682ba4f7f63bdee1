"""The batch resolver ends batches soon after their last member, and by and by whatever was missed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ayb_jobs import Batch, NewJob, Snooze, batch, enqueue
from ayb_jobs.config import Retention
from ayb_jobs.events import BatchesDone, ChildrenResolved, Event, JobRecovered, JobsCanceled, JobsSettled, RowsSetAside
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.job import LeasedJob, RecoveredJob
from ayb_jobs.model.lifecycle import settle_failure, settle_result
from ayb_jobs.operations.acting import Actor
from ayb_jobs.operations.batches import cancel
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.runtime.jobs import batch_resolver as module
from ayb_jobs.runtime.jobs.batch_resolver import BatchResolver
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue import batches
from ayb_jobs.storage.queue.batch_views import get_batch
from ayb_jobs.storage.queue.jobs import get_job
from tests.completing import Completing, lease
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running
from tests.storage.queue.test_batches import CALLED, MEMBER, events, made
from tests.storage.queue.test_unique import end


class Resolving:
    """A batch resolver, what it told, how often it was woken, and the statements that it sent."""

    def __init__(self, db: Database) -> None:
        self.told: list[Any] = []
        self.woken = 0
        self.hearing = Hearing()
        self.resolver = BatchResolver(database=db, emit=self.told.append, wake=self._wake, hearing=self.hearing)

    def _wake(self) -> None:
        self.woken += 1

    def tick(self) -> float:
        """Take a turn, however soon after the last."""
        self.resolver._next_look = 0.0
        return self.resolver.tick()

    def hear_of(self, job: Any, *, failed: bool = False) -> None:
        now = time.monotonic()
        ended = settle_failure(job, "it broke", now, now, backoff=Backoff(), chance=0) if failed else None
        self.resolver.hear(JobsSettled(settlements=[ended or settle_result(job, None, now, now)], now=now))


@pytest.fixture
def resolving(db: Database) -> Resolving:
    return Resolving(db)


def test_jobs_without_a_batch_cost_nothing(resolving: Resolving, conn: Connection) -> None:
    assert resolving.tick() > 5
    make_job(conn)
    resolving.hear_of(lease(conn))
    assert resolving.woken == 0


def test_one_that_hears_notifications_looks_when_the_heartbeat_has_seen_something(
    resolving: Resolving, conn: Connection
) -> None:
    resolving.hearing.now = True
    assert resolving.tick() > 3600
    made(conn, 1)
    conn.execute("UPDATE _ayb_jobs SET state = 'completed', completed_at = now()")
    assert resolving.tick() > 3600, "it looked before it was due"
    resolving.resolver.seen()
    assert (resolving.woken, resolving.told) == (1, [])
    resolving.tick()
    assert [type(event) for event in resolving.told] == [BatchesDone]


def test_an_attempt_that_failed_with_others_left_is_no_end(resolving: Resolving, conn: Connection) -> None:
    made(conn, 1)
    job = lease(conn)
    assert job.batch_id is not None
    resolving.hear_of(job, failed=True)
    assert resolving.woken == 0


def test_the_last_end_is_followed_by_the_callbacks_at_once(resolving: Resolving, conn: Connection) -> None:
    assert resolving.tick() > 5
    batch_id, members = made(conn)
    for left in (1, 0):
        job = lease(conn)
        end(conn, job.id)
        resolving.hear_of(job)
        assert resolving.woken == 2 - left
        assert resolving.tick() <= module.SWEEP_S
        assert len(events(conn)) == (0 if left else 2)
    assert resolving.told == [BatchesDone(batches=[EndedBatch(batch_id, 2, 0, 0)])]
    assert len(members) == 2


def test_a_batch_that_is_known_to_go_on_waits_for_its_next_look_and_one_that_may_have_ended_does_not(
    resolving: Resolving, conn: Connection
) -> None:
    """Its witness is the last member."""
    _, members = made(conn, 3)
    other = made(conn, 1)[0]
    jobs = {job.id: job for job in (lease(conn) for _ in range(4))}
    last = max(members)
    first, second = (jobs.pop(member) for member in sorted(members)[:2])
    for job, is_early in (
        (first, False),
        (second, True),
        (jobs.pop(last), False),
        *((job, False) for job in jobs.values()),
    ):
        end(conn, job.id)
        resolving.hear_of(job)
        resolving.resolver._next_look = time.monotonic() + 60
        assert (resolving.resolver.tick() > 50) == is_early
    assert sorted(each.id for told in resolving.told for each in told.batches) == sorted([jobs_batch(first), other])
    assert events(conn) == ["done", "done", "success", "success"]


def jobs_batch(job: LeasedJob) -> str:
    assert job.batch_id is not None
    return job.batch_id


def test_while_a_witness_has_not_ended_no_batch_is_locked(
    resolving: Resolving, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, members = made(conn, 3)

    def refuse(*_: object, **__: object) -> list[EndedBatch]:
        raise AssertionError("it locked a batch")

    monkeypatch.setattr(module, "close_batches", refuse)
    for _ in range(2):
        job = lease(conn)
        end(conn, job.id)
        resolving.hear_of(job)
        resolving.tick()
        assert resolving.resolver._witnesses == {job.batch_id: max(members)}


ENDS: dict[str, Callable[[str], Event]] = {
    "recovered": lambda job_id: JobRecovered(
        job=RecoveredJob(id=job_id, type="test", state="failed", attempts=1, crashes=1, error="lost")
    ),
    "given back": lambda job_id: JobsCanceled(job_ids=[job_id]),
    "canceled with its parent": lambda job_id: ChildrenResolved(freed=[], canceled=[job_id]),
    "canceled by hand": lambda job_id: ActionTaken(actor="ann", action="job.cancel", target=job_id),
    "canceled with others": lambda _: ActionTaken(actor="ann", action="jobs.cancel", target=None, count=1),
}


@pytest.mark.parametrize("way", ENDS)
def test_members_that_end_by_other_ways_end_their_batch_at_once(
    resolving: Resolving, conn: Connection, way: str
) -> None:
    _, [member] = made(conn, 1)
    assert resolving.tick() <= module.SWEEP_S
    end(conn, member, "canceled")
    resolving.resolver.hear(ENDS[way](member))
    assert resolving.woken == 1
    resolving.tick()
    assert events(conn) == ["done", "failure"]


def test_a_batch_that_was_sealed_late_ends_as_soon_as_it_is_told(resolving: Resolving, conn: Connection) -> None:
    assert resolving.tick() > 5
    with batch(conn, **CALLED) as one:
        end(conn, one.enqueue(MEMBER).id)
    resolving.resolver.told()
    resolving.tick()
    assert events(conn) == ["done", "success"]


def test_a_sweep_finds_what_was_missed_page_by_page(
    resolving: Resolving, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    members = [made(conn, 1, on_done=NewJob(type="done"))[1][0] for _ in range(5)]
    resolving.tick()
    for member in members:
        end(conn, member)  # nobody hears of it
    for _ in range(5):
        resolving.resolver._next_sweep = 0.0
        resolving.tick()
    assert events(conn) == ["done"] * 5
    for _ in range(2):
        resolving.resolver._next_sweep = 0.0
        waits = resolving.tick()
    assert waits > 5  # and none is left to be looked for


def test_a_look_that_fails_is_made_again(
    resolving: Resolving, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolving.tick() > 5
    made(conn, 1)
    job = lease(conn)
    end(conn, job.id)
    resolving.hear_of(job)
    with monkeypatch.context() as patch:
        patch.setattr(module, "look_at_batches", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            resolving.tick()
    resolving.tick()
    assert events(conn) == ["done", "success"]


def test_a_batch_that_cannot_end_is_set_aside_and_keeps_no_other(resolving: Resolving, conn: Connection) -> None:
    bad = made(conn, 0, on_done=NewJob(type="odd"))[0]
    made(conn, 0, on_done=NewJob(type="done"))
    conn.execute("""
        CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_it BEFORE INSERT ON _ayb_jobs FOR EACH ROW WHEN (NEW.type = 'odd') EXECUTE FUNCTION drop_it()
    """)
    resolving.tick()
    assert events(conn) == ["done"]
    [aside] = [event for event in resolving.told if isinstance(event, RowsSetAside)]
    assert aside.row_ids == (bad,)
    conn.execute("DROP TRIGGER drop_it ON _ayb_jobs")
    resolving.resolver._writing._aside.waits.end_all()
    resolving.resolver._next_sweep = 0.0
    resolving.tick()
    assert events(conn) == ["done", "odd"]


def test_a_batch_that_somebody_has_locked_keeps_no_other(resolving: Resolving, conn: Connection, db: Database) -> None:
    locked = made(conn, 0, on_done=NewJob(type="late"))[0]
    made(conn, 0, on_done=NewJob(type="done"))
    with db.transaction() as other:
        Batch(other, locked).enqueue(MEMBER)
        resolving.tick()
        assert events(conn) == ["done"]
    resolving.resolver._next_sweep = 0.0
    resolving.tick()
    assert events(conn) == ["done"]  # a member was added meanwhile
    assert not [event for event in resolving.told if isinstance(event, RowsSetAside)]
    assert batches.find_sealed(conn, limit=9) == [locked]


def test_members_are_kept_as_they_complete_though_others_are_removed(conn: Connection, db: Database) -> None:
    completing = Completing(db, conn, remove_completed=True)
    batch_id, _ = made(conn, 1)
    job = lease(conn)
    (held,) = completing.in_flight.add([job], 0.0)
    completing.completer.settle(held, settle_result(job, None, 0.0, 0.0))
    plain = completing.end_one()
    completing.completer.tick()
    assert get_job(conn, job.id).state == "completed"
    assert conn.execute("SELECT FROM _ayb_jobs WHERE id = %s", (plain,)).fetchone() is None
    [settled] = completing.of(JobsSettled)
    assert {ended.job.batch_id for ended in settled.settlements} == {batch_id, None}


@contextmanager
def recording(url: str, **settings: Any) -> Iterator[list[Any]]:
    """Run a daemon whose jobs may add others, and record the payloads of what began."""
    began: list[Any] = []
    lock = threading.Lock()
    registry = Registry()

    @registry.handler("step")
    def step(context: Any) -> None:
        with lock:
            began.append(context.payload)
        for number in range(context.payload.get("adds", 0)):
            with context.connection() as conn:
                enqueue(conn, NewJob(type="step", payload={"number": number}, batch_id=context.job.batch_id))
        if context.payload.get("fails"):
            raise ValueError("it broke")

    with running(url, registry, **settings):
        yield began


def called(began: list[Any]) -> list[tuple[str, int]]:
    return sorted((payload["batch"]["event"], payload["batch"]["total"]) for payload in began if "batch" in payload)


CALLBACKS: dict[str, Any] = {f"on_{event}": NewJob(type="step") for event in ("success", "failure", "done")}


@pytest.mark.parametrize("completed_h", [-1, 0], ids=["kept", "removed"])
def test_a_daemon_calls_back_once_all_have_ended_those_that_members_added_too(
    conn: Connection, database_url: str, *, completed_h: int
) -> None:
    with recording(database_url, retention=Retention(completed_h=completed_h)) as began:
        with batch(conn, **CALLBACKS) as one:
            one.enqueue_many([NewJob(type="step", payload={"adds": 2})] * 10)
        eventually(lambda: len(called(began)) == 2)
        with batch(conn, **CALLBACKS) as other:
            other.enqueue(NewJob(type="step", payload={"fails": True}, max_attempts=1))
        eventually(lambda: len(called(began)) == 4)
    assert called(began) == [("done", 1), ("done", 30), ("failure", 1), ("success", 30)]
    assert all("batch" in payload for payload in began[30:32])


def test_two_daemons_call_back_once(conn: Connection, database_url: str) -> None:
    with recording(database_url) as first, recording(database_url) as second:
        for _ in range(20):
            with conn.transaction(), batch(conn, on_done=NewJob(type="step")) as one:
                one.enqueue_many([NewJob(type="step")] * 6)
        eventually(lambda: len(called(first) + called(second)) == 20, within_s=30)
        rows = conn.execute(
            "SELECT count(*), count(DISTINCT payload #>> '{batch,id}') FROM _ayb_jobs WHERE batch_id IS NULL"
        )
        assert rows.fetchone() == (20, 20)


@pytest.mark.parametrize("refusal", [None, "RAISE EXCEPTION 'no'", "RETURN NULL"])
def test_a_member_of_a_canceled_batch_does_not_run_again(
    database_url: str, conn: Connection, refusal: str | None
) -> None:
    registry, runs, go = Registry(), list[str](), threading.Event()

    @registry.handler(MEMBER.type)
    def snooze(ctx: JobContext) -> Snooze:
        runs.append(ctx.job.id)
        go.wait(30)
        return Snooze(3600)

    with conn.transaction(), batch(conn) as one:
        members = [one.enqueue(NewJob(type=MEMBER.type)).id for _ in range(2)]
    refused = members[:1] if refusal else []
    if refusal:
        conn.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refusal}; END $$;"
            " CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW"
            f" WHEN (old.id = '{refused[0]}' AND old.state = 'queued' AND new.state = 'canceled')"
            " EXECUTE FUNCTION refuse()"
        )
    with running(database_url, registry, worker_concurrency=2):
        eventually(lambda: len(runs) == 2)
        cancel_batch_by_hand(conn, one.id)
        go.set()
        eventually(lambda: {get_job(conn, job_id).state for job_id in members if job_id not in refused} == {"canceled"})
        if not refused:
            eventually(lambda: get_batch(conn, one.id).done_at is not None)
    assert sorted(runs) == sorted(members)


def cancel_batch_by_hand(conn: Connection, batch_id: str) -> None:
    @contextmanager
    def begin() -> Iterator[Connection]:
        with conn.transaction():
            yield conn

    cancel(begin, batch_id, actor=Actor(name="me"))
