"""The resolver frees jobs that wait for others: soon after the end of these, and by and by whatever was missed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ayb_jobs import NewJob, enqueue, enqueue_many
from ayb_jobs.events import ChildrenResolved, JobRecovered, JobsCanceled, RowsSetAside
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.job import RecoveredJob
from ayb_jobs.runtime.hearing import Hearing
from ayb_jobs.runtime.jobs import resolver as module
from ayb_jobs.runtime.jobs.resolver import Resolver
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running
from tests.storage.queue.test_dependencies import child_of, state
from tests.storage.queue.test_unique import end


class Resolving:
    """A resolver, what it told, and how often it was woken."""

    def __init__(self, db: Database) -> None:
        self.told: list[Any] = []
        self.woken = 0
        self.hearing = Hearing()
        self.resolver = Resolver(database=db, emit=self.told.append, wake=self._wake, hearing=self.hearing)

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def resolving(db: Database) -> Resolving:
    return Resolving(db)


def failed(job_id: str) -> JobRecovered:
    return JobRecovered(job=RecoveredJob(id=job_id, type="test", state="failed", attempts=1, crashes=1, error="lost"))


def test_while_no_job_waits_for_another_an_end_costs_nothing(resolving: Resolving) -> None:
    assert 5 < resolving.resolver.tick() <= module.IDLE_S
    resolving.resolver.hear(failed("01890000-0000-7000-8000-0000000000ff"))
    assert resolving.woken == 0
    assert resolving.resolver.tick() > 5


def test_one_that_hears_notifications_looks_when_the_heartbeat_has_seen_something(
    resolving: Resolving, conn: Connection
) -> None:
    resolving.hearing.now = True
    assert resolving.resolver.tick() > 3600
    child_of(conn, make_job(conn, "completed"))
    assert resolving.resolver.tick() > 3600, "it looked before it was due"
    resolving.resolver.seen()
    assert (resolving.woken, resolving.told) == (1, [])
    resolving.resolver.tick()
    assert [type(event) for event in resolving.told] == [ChildrenResolved]


def test_one_that_was_told_and_finds_that_no_job_waits_costs_nothing_again(resolving: Resolving) -> None:
    resolving.resolver.tick()
    resolving.resolver.told()
    resolving.resolver.tick()
    resolving.resolver.hear(failed("01890000-0000-7000-8000-0000000000ff"))
    assert resolving.woken == 1, "only by what it was told"


def test_where_nothing_is_told_a_sweep_notices_that_jobs_wait(resolving: Resolving, conn: Connection) -> None:
    assert resolving.resolver.tick() > 5
    parent = make_job(conn, "running")
    child = child_of(conn, parent)
    resolving.resolver._next_sweep = 0.0
    assert resolving.resolver.tick() <= module.SWEEP_S
    end(conn, parent, "failed")
    resolving.resolver.hear(failed(parent))
    assert resolving.woken == 1
    resolving.resolver.tick()
    assert state(conn, child) == "canceled"


def test_an_end_that_is_heard_of_frees_its_children_at_once(
    resolving: Resolving, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    parent = make_job(conn, "running")
    children = [child_of(conn, parent, rule="run") for _ in range(7)]
    assert resolving.resolver.tick() <= module.SWEEP_S
    end(conn, parent, "failed")
    resolving.resolver.hear(failed(parent))
    assert resolving.woken == 1
    resolving.resolver.tick()
    assert {state(conn, child) for child in children} == {"queued"}
    freed = [child for event in resolving.told for child in event.freed]
    assert sorted(freed) == sorted(children)


@pytest.mark.parametrize("given_back", [True, False])
def test_children_of_what_ended_canceled_are_resolved_at_once(
    resolving: Resolving, conn: Connection, *, given_back: bool
) -> None:
    parent = make_job(conn, "running")
    child = child_of(conn, parent, rule="run")
    assert resolving.resolver.tick() <= module.SWEEP_S
    end(conn, parent, "canceled")
    recovered = RecoveredJob(id=parent, type="test", state="canceled", attempts=1, crashes=1, error="lost")
    resolving.resolver.hear(JobsCanceled(job_ids=[parent]) if given_back else JobRecovered(job=recovered))
    assert resolving.woken == 1
    resolving.resolver.tick()
    assert state(conn, child) == "queued"


def test_children_of_what_a_worker_outside_has_ended_are_freed_at_once(resolving: Resolving, conn: Connection) -> None:
    parent = make_job(conn, "running")
    child = child_of(conn, parent, rule="run")
    assert resolving.resolver.tick() <= module.SWEEP_S
    end(conn, parent, "failed")
    resolving.resolver.ended("anybody may say anything")
    assert resolving.woken == 0
    resolving.resolver.ended(parent)
    assert resolving.woken == 1
    resolving.resolver._next_sweep += 60
    resolving.resolver.tick()
    assert [child] == [one for event in resolving.told for one in event.freed]


def test_a_child_of_what_has_ended_is_freed_as_soon_as_it_is_told(resolving: Resolving, conn: Connection) -> None:
    resolving.resolver.tick()
    parent = make_job(conn, "completed")
    for _ in range(2):
        child = child_of(conn, parent)
        resolving.resolver.told()
        resolving.resolver.tick()
        assert state(conn, child) == "queued"


def test_a_sweep_finds_what_was_missed_page_by_page(
    resolving: Resolving, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEPT", 10)
    parents = [make_job(conn, "running") for _ in range(25)]
    enqueue_many(conn, [NewJob(type="test", depends_on=[parent]) for parent in parents])
    while resolving.resolver.tick() == 0:
        pass
    for parent in parents:
        end(conn, parent)  # nobody hears of it
    for _ in range(4):  # it is in the midst of a round
        resolving.resolver._next_sweep = 0.0
        resolving.resolver.tick()
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE blocked_run_at IS NOT NULL").fetchone() == (0,)
    resolving.resolver._next_sweep = 0.0
    assert resolving.resolver.tick() > 5  # and none is left to be looked for


def test_a_child_that_the_database_refuses_to_free_is_set_aside_and_keeps_no_other(
    resolving: Resolving, conn: Connection
) -> None:
    parent = make_job(conn, "completed")
    children = [child_of(conn, parent, queue="odd" if number == 1 else "default") for number in range(3)]
    conn.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no odd ones'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (NEW.queue = 'odd') EXECUTE FUNCTION refuse()
    """)
    resolving.resolver.tick()
    assert [state(conn, child) for child in children] == ["queued", "blocked", "queued"]
    [aside] = [event for event in resolving.told if isinstance(event, RowsSetAside)]
    assert aside.row_ids == (children[1],)


def test_a_child_that_a_trigger_keeps_as_it_is_is_set_aside_and_freed_once_that_is_over(
    resolving: Resolving, conn: Connection
) -> None:
    children = [child_of(conn, make_job(conn, ending)) for ending in ("completed", "failed")]
    conn.execute("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()
    """)
    resolving.resolver.tick()
    assert [event.row_ids for event in resolving.told if isinstance(event, RowsSetAside)] == [tuple(children)]
    conn.execute("DROP TRIGGER keep ON _ayb_jobs")
    resolving.resolver._writing._aside.waits.end_all()
    resolving.resolver._next_sweep = 0.0
    resolving.resolver.tick()
    assert [state(conn, child) for child in children] == ["queued", "canceled"]


def test_a_child_that_somebody_has_locked_keeps_no_other(
    resolving: Resolving, conn: Connection, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = make_job(conn, "completed")
    children = [child_of(conn, parent) for _ in range(3)]
    with db.transaction() as other:
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (children[1],))
        resolving.resolver.tick()
        assert [state(conn, child) for child in children] == ["queued", "blocked", "queued"]
    resolving.resolver._next_sweep = 0.0
    resolving.resolver.tick()
    assert state(conn, children[1]) == "queued"
    assert not [event for event in resolving.told if isinstance(event, RowsSetAside)]


@contextmanager
def recording(url: str, **settings: Any) -> Iterator[list[int]]:
    """Run a daemon, and record which jobs began, by the number in their payload."""
    began: list[int] = []
    lock = threading.Lock()
    registry = Registry()

    @registry.handler("step")
    def step(context: Any) -> None:
        with lock:
            began.append(context.payload["number"])
        if context.payload.get("fails"):
            raise ValueError("it broke")

    with running(url, registry, **settings):
        yield began


def chain(conn: Connection, length: int) -> None:
    with conn.transaction():
        before = enqueue(conn, NewJob(type="step", payload={"number": 0}))
        for number in range(1, length):
            before = enqueue(conn, NewJob(type="step", payload={"number": number}, depends_on=[before]))


def test_a_daemon_runs_a_chain_in_its_order(conn: Connection, database_url: str) -> None:
    with recording(database_url) as began:
        chain(conn, 50)
        eventually(lambda: len(began) == 50)
    assert began == list(range(50))


@pytest.mark.parametrize("notify", [True, False], ids=["with notifications", "without"])
def test_a_daemon_runs_a_diamond_and_cancels_what_depends_on_a_failure(
    conn: Connection, database_url: str, *, notify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 1.0)
    with recording(database_url, notify=notify, poll_interval_ms=100) as began:
        first = enqueue(conn, NewJob(type="step", payload={"number": 0}))
        middle = [enqueue(conn, NewJob(type="step", payload={"number": n}, depends_on=[first])) for n in (1, 2, 3)]
        last = enqueue(conn, NewJob(type="step", payload={"number": 4}, depends_on=middle))
        fails = enqueue(
            conn, NewJob(type="step", payload={"number": 5, "fails": True}, depends_on=[last], max_attempts=1)
        )
        never = enqueue(conn, NewJob(type="step", payload={"number": 6}, depends_on=[fails]))
        after_all = enqueue(
            conn, NewJob(type="step", payload={"number": 7}, depends_on=[never], on_parent_failure="run")
        )
        eventually(lambda: state(conn, after_all.id) == "completed", within_s=20)
    assert (began[0], sorted(began[1:4]), began[4:]) == (0, [1, 2, 3], [4, 5, 7])
    assert state(conn, never.id) == "canceled"


def test_what_was_resolved_is_told(resolving: Resolving, conn: Connection) -> None:
    good, bad = make_job(conn, "completed"), make_job(conn, "failed")
    freed, canceled = child_of(conn, good), child_of(conn, bad)
    resolving.resolver.tick()
    assert resolving.told == [ChildrenResolved(freed=[freed], canceled=[canceled])]
