"""Jobs that a child is ordered to run ahead of their turn: none waits for a long one, and none pays for another."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.client.canceling import request_cancel
from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.events import LoopFailed
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.runtime.executors.ahead import Ahead
from ayb_jobs.runtime.executors.child import Settings
from ayb_jobs.runtime.executors.child_process import Child
from ayb_jobs.runtime.executors.forking import ForkServer
from ayb_jobs.runtime.executors.orders import MOST_BYTES, Orders, Run
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.storage.database import Connection, Timeouts
from tests.eventually import eventually
from tests.factories import leased_job
from tests.running import running
from tests.runtime.executors import isolated_jobs
from tests.runtime.executors.test_processes import POISON, count, execution, pids, row

REGISTRY = isolated_jobs.registry


@pytest.fixture(autouse=True)
def _places(conn: Connection) -> None:
    conn.execute("CREATE TABLE places (job_id text, pid int)")


def innocents(number: int) -> list[NewJob]:
    return [NewJob(type="innocent", payload={"n": n}) for n in range(number)]


def innocent_runs(conn: Connection) -> list[tuple[int, str, int]]:
    """Return how many attempts of innocent jobs ended how, by their numbers."""
    return conn.execute(
        "SELECT attempt, outcome, count(*) FROM _ayb_job_executions WHERE job_type = 'innocent' GROUP BY 1, 2"
    ).fetchall()


def test_each_runs_once(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, innocents(3000))
    with running(database_url, REGISTRY, process_concurrency=2, process_max_jobs=700):
        eventually(lambda: count(conn, "innocent", "completed") == 3000, within_s=60)
    assert innocent_runs(conn) == [(1, "completed", 3000)]


def test_none_waits_behind_a_long_one(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [*innocents(300), NewJob(type="wait"), *innocents(700)])
    with running(database_url, REGISTRY, process_concurrency=2):
        eventually(lambda: count(conn, "innocent", "completed") == 1000, within_s=60)
        assert count(conn, "wait", "running") == 1


def test_none_pays_for_poison_before_it(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("FORKED_PID_FILE", f"{tmp_path}/forked")
    words = [word for word in POISON if word != "memory"]
    poison = [NewJob(type="poison", payload=word, max_attempts=1) for word in words]
    mixed = [job for one in poison for job in (*innocents(150), one)]
    enqueue_many(conn, [*mixed, *innocents(100)])
    with running(database_url, REGISTRY, process_concurrency=2):
        eventually(lambda: count(conn, "innocent", "completed") == 150 * len(words) + 100, within_s=60)
        eventually(lambda: count(conn, "poison", "failed") == len(words), within_s=60)
    told = conn.execute(
        "SELECT payload #>> '{}', outcome, error FROM _ayb_job_executions JOIN _ayb_jobs ON _ayb_jobs.id = job_id"
        " WHERE job_type = 'poison'"
    ).fetchall()
    assert sorted(word for word, *_ in told) == sorted(words)
    for word, outcome, error in told:
        assert (outcome, POISON[word][1] in error) == (POISON[word][0], True), (word, error)
    assert innocent_runs(conn) == [(1, "completed", 150 * len(words) + 100)]


def test_none_pays_for_a_canceled_one_that_is_killed(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [*innocents(200), NewJob(type="wait", payload="deaf"), *innocents(200)])
    with running(database_url, REGISTRY, process_concurrency=1):
        eventually(lambda: pids(conn), within_s=30)
        (deaf,) = conn.execute("SELECT id::text FROM _ayb_jobs WHERE type = 'wait'").fetchall()[0]
        request_cancel(conn, deaf)
        eventually(lambda: row(conn, deaf, "state") == "canceled", within_s=30)
        eventually(lambda: count(conn, "innocent", "completed") == 400, within_s=30)
    assert innocent_runs(conn) == [(1, "completed", 400)]


def test_a_shutdown_gives_back_what_waits_behind_a_long_one(database_url: str, conn: Connection) -> None:
    enqueue_many(conn, [*innocents(200), NewJob(type="wait", payload="slow"), *innocents(200)])
    with running(database_url, REGISTRY, process_concurrency=1):
        eventually(lambda: pids(conn), within_s=30)
    left = conn.execute(
        "SELECT type, state, max(attempts), count(*) FROM _ayb_jobs GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall()
    assert left == [("innocent", "completed", 1, 200), ("innocent", "queued", 0, 200), ("wait", "queued", 0, 1)]


def test_a_child_that_dies_between_two_jobs_costs_no_attempt(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1):
        first = enqueue(conn, NewJob(type="where")).id
        eventually(lambda: row(conn, first, "state") == "completed", within_s=30)
        os.kill(pids(conn)[0], signal.SIGKILL)
        second = enqueue(conn, NewJob(type="where", max_attempts=1)).id
        eventually(lambda: row(conn, second, "state") == "completed", within_s=30)
    assert execution(conn, second)[0] == "completed"
    assert len(set(pids(conn))) == 2


def test_a_child_that_stood_still_runs_each_once(database_url: str, conn: Connection) -> None:
    with running(database_url, REGISTRY, process_concurrency=1):
        first = enqueue(conn, NewJob(type="where")).id
        eventually(lambda: row(conn, first, "state") == "completed", within_s=30)
        (pid,) = pids(conn)
        for _ in range(5):
            enqueue_many(conn, innocents(200))
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: stood_still(conn))
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: count(conn, "innocent", "completed") == 1000, within_s=60)
    assert innocent_runs(conn) == [(1, "completed", 1000)]


def stood_still(conn: Connection) -> bool:
    """Tell whether jobs have waited for the child for longer than they wait behind any other, or all have ended."""
    return conn.execute(
        "SELECT coalesce(min(now() - last_run_at) > '0.2 s', true) FROM _ayb_jobs WHERE state IN ('queued', 'running')"
    ).fetchone() == (True,)


def test_large_and_small_payloads_come_in_turn(database_url: str, conn: Connection) -> None:
    left, apart = "y" * 2 * MOST_BYTES, "é" * 10_000  # in the database by leasing, and beside the packet
    large = [NewJob(type="innocent", payload={"n": n, "x": apart if n % 2 else left}) for n in range(20)]
    mixed = [job for one in large for job in (*innocents(20), one)]
    enqueue_many(conn, mixed)
    with running(database_url, REGISTRY, process_concurrency=2):
        eventually(lambda: count(conn, "innocent", "completed") == len(mixed), within_s=60)
    ran = conn.execute("SELECT count(*), sum(records_processed) FROM _ayb_job_executions WHERE attempt = 1").fetchone()
    assert ran == (len(mixed), sum(range(20)) * 21)


def test_a_slot_that_fails_drops_no_job_and_takes_no_end_for_that_of_another(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue_many(conn, innocents(1000))
    failures = 0
    with running(database_url, REGISTRY, process_concurrency=1) as daemon:
        (slot,) = (slot for slot in daemon.daemon._parts.executors.slots if slot._thread.name == "process-slot-1")
        begin = slot._attempts.begin

        def fail_now_and_then(held: Held, job: LeasedJob, job_type: JobType | None) -> JobContext:
            nonlocal failures
            if held.sent and failures < 3:
                failures += 1
                raise MemoryError
            return begin(held, job, job_type)

        monkeypatch.setattr(slot._attempts, "begin", fail_now_and_then)
        eventually(lambda: count(conn, "innocent", "completed") == 1000, within_s=60)
    assert failures == 3
    assert daemon.recorder.of(LoopFailed)
    mixed_up = conn.execute("""
        SELECT count(*) FROM _ayb_job_executions AS execution JOIN _ayb_jobs AS job ON job.id = execution.job_id
        WHERE execution.outcome = 'completed' AND execution.records_processed IS DISTINCT FROM (payload->>'n')::int
    """).fetchall()
    assert mixed_up == [(0,)]


class Still:
    """A child that stands still, a buffer, and what was ordered ahead of the child."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.paused = Paused()
        self.buffer = Buffer(on_low=lambda: None, paused=self.paused, slots=1)
        self.ahead = Ahead(self.buffer, REGISTRY.get)
        self.ahead.ran(0.001)
        self.jobs = [Held(leased_job(id=str(n), lease_id=str(n), type="innocent"), 0.0) for n in range(10)]
        self.buffer.put(self.jobs)

    def waiting(self) -> list[str]:
        return [held.job.id for held in self.buffer.take_back()]


@pytest.fixture
def still() -> Iterator[Still]:
    fork_server = ForkServer([isolated_jobs.__name__])
    settings = Settings(
        url="", timeouts=Timeouts(), lease_s=60, worker_id="test", types={"innocent": isolated_jobs.__name__},
        memory_mib=0,
    )  # fmt: skip
    woken, wake = os.pipe()
    child = Child(fork_server, settings, threading.Event(), woken=woken)
    os.kill(child.pid, signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    yield Still(child)
    child.kill()
    fork_server.close()
    os.close(woken)
    os.close(wake)


def test_what_was_not_begun_is_taken_back_in_its_order(still: Still) -> None:
    still.ahead.order(still.child, most=4)
    assert [held.sent for held in still.jobs] == [True] * 4 + [False] * 6
    assert not still.ahead.take_back(still.child)
    assert not any(held.sent for held in still.jobs)
    assert still.waiting() == [str(n) for n in range(10)]


def test_what_was_paused_lost_or_is_left_at_the_end_is_taken_back(still: Still) -> None:
    for hinder in (
        lambda: still.paused.become(frozenset(), frozenset({"innocent"})),
        lambda: setattr(still.jobs[0], "lost", True),
        still.buffer.close,
    ):
        still.ahead.order(still.child, most=4)
        hinder()
        assert still.ahead.next(still.child) is None
        assert still.waiting() == [str(n) for n in range(10)]
        still.paused.become(frozenset(), frozenset())
        still.jobs[0].lost = False
        still.buffer.put(still.jobs)


def test_what_is_ordered_ahead_is_no_more_than_a_slots_share(still: Still) -> None:
    still.buffer.resize(4)
    still.ahead.order(still.child, most=100)
    assert len(still.ahead) == 2


def test_slow_handlers_have_nothing_ordered_ahead(still: Still) -> None:
    for _ in range(100):
        still.ahead.ran(1.0)
    still.ahead.order(still.child, most=100)
    assert not still.ahead


def test_a_packet_is_taken_by_one_side_alone() -> None:
    orders = Orders()
    with closing(orders):
        for n in range(20):
            assert orders.put(b"%d" % n)
        assert [orders.theirs.recv(100) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        assert orders.take_back() == 15
        assert orders.take_back() == 0
        orders.put(b"left")
    assert orders.take_back() == 1


def test_what_fails_while_it_is_ordered_goes_back_in_its_order(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    order_ahead = still.child.order_ahead

    def fail(run: Run) -> bool:
        if run.job.id == "2":
            raise MemoryError
        return order_ahead(run)

    monkeypatch.setattr(still.child, "order_ahead", fail)
    with pytest.raises(MemoryError):
        still.ahead.order(still.child, most=4)
    assert [held.sent for held in still.jobs] == [True] * 2 + [False] * 8
    still.ahead.take_back(still.child)
    assert still.waiting() == [str(n) for n in range(10)]


def test_a_question_that_fails_leaves_the_buffer_as_it_was(still: Still) -> None:
    def fits(held: Held) -> bool:
        if held.job.id == "2":
            raise MemoryError
        return True

    with pytest.raises(MemoryError):
        still.buffer.take_ahead(5, fits)
    assert still.waiting() == [str(n) for n in range(10)]
