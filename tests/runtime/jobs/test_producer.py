"""The producer is asked for more as soon as the buffer runs low, and never forgets that it was."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
from psycopg import OperationalError, errors

from ayb_jobs.events import LoopErrorRepeated
from ayb_jobs.runtime.jobs import look, releaser
from ayb_jobs.runtime.jobs.backlog import Backlog
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.producer import Producer
from ayb_jobs.runtime.jobs.releaser import LOOK_S, Releaser
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.producing import producing

POLL_S = 60.0


@dataclass
class Bench:
    """A producer whose turns the test takes, and handlers that take as long as the test says."""

    db: Database
    run_s: float = 0.001
    queues: Sequence[str] = ("default",)
    wakes: int = 0
    events: list[object] = field(default_factory=list)
    buffer: Buffer = field(init=False)
    producer: Producer = field(init=False)
    releaser: Releaser = field(init=False)
    in_flight: InFlight = field(default_factory=InFlight)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.woken)
        self.buffer = Buffer(on_low=self.backlog.room_made)
        self.producer, self.releaser, self.look = producing(
            self.db,
            self.buffer,
            self.in_flight,
            poll_s=POLL_S,
            emit=self.events.append,
            mean_run_s=lambda: self.run_s,
            backlog=self.backlog,
            queues=self.queues,
        )

    def woken(self) -> None:
        self.wakes += 1

    def take_down_to(self, left: int) -> None:
        while len(self.buffer) > left:
            self.buffer.take()


@pytest.fixture
def bench(db: Database, conn: Connection) -> Bench:
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, 1000)")
    return Bench(db)


def test_a_buffer_that_runs_low_asks_for_more(bench: Bench) -> None:
    assert 0 < bench.producer.tick() <= releaser.STALE_S  # 4 handlers of 1 ms: 200 jobs can start within 50 ms
    assert len(bench.buffer) == 200
    bench.take_down_to(101)
    assert bench.wakes == 0
    bench.take_down_to(100)
    assert bench.wakes == 1
    bench.producer.tick()
    assert len(bench.buffer) == 200


def test_a_turn_that_finds_no_room_leaves_the_question_open(bench: Bench) -> None:
    bench.producer.tick()
    bench.take_down_to(100)
    assert bench.wakes == 1
    bench.run_s = 0.002  # meanwhile handlers have become slower: now 100 is more than enough
    assert 0 < bench.producer.tick() <= releaser.STALE_S
    assert len(bench.buffer) == 100
    bench.take_down_to(50)
    assert bench.wakes == 2
    bench.producer.tick()
    assert len(bench.buffer) == 100


def test_an_empty_queue_is_not_asked_again_before_the_next_poll(bench: Bench, conn: Connection) -> None:
    conn.execute("DELETE FROM _ayb_jobs")
    bench.producer.tick()
    bench.producer.tick()
    bench.backlog.room_made()
    assert bench.wakes == 0


def test_a_slot_that_asks_for_more_while_a_look_is_under_way_causes_another_only_if_more_waits(
    bench: Bench, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("DELETE FROM _ayb_jobs WHERE id <> (SELECT min(id::text)::uuid FROM _ayb_jobs)")
    monkeypatch.setattr(bench.look, "_put", run_at_once(bench))
    assert bench.producer.notified() == math.inf
    assert len(bench.in_flight) == 1
    assert bench.wakes == 0, "a lone job was followed by a look for another"
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, 300)")
    assert bench.producer.tick() == 0.0
    assert 0 < bench.producer.tick() <= POLL_S
    assert len(bench.in_flight) == 301


def run_at_once(bench: Bench) -> Callable[[Sequence[Held]], bool]:
    """Return what puts jobs into the buffer, whose slots then take all of them and ask for more at once."""

    def put(jobs: Sequence[Held]) -> bool:
        bench.buffer.put(jobs)
        bench.take_down_to(0)
        bench.backlog.room_made()
        return True

    return put


def test_a_turn_that_one_executor_asked_for_takes_no_look_of_another(db: Database, conn: Connection) -> None:
    conn.execute("INSERT INTO _ayb_jobs (type) SELECT 'test' FROM generate_series(1, 2000)")
    first, second = Bench(db), Bench(db)
    looks = [first.look, second.look]
    producer = Producer(
        looks=looks,
        releaser=first.releaser,
        limits=Limits(exist=False),
        emit=first.events.append,
        poll_s=POLL_S,
        ring=lambda: None,
    )
    producer.tick()
    assert (len(first.buffer), len(second.buffer)) == (200, 200)
    first.take_down_to(100)
    second.take_down_to(150)
    second.run_s = 0.0005
    assert 0 < producer.tick() <= POLL_S
    assert (len(first.buffer), len(second.buffer)) == (200, 150)
    second.look.due = 0.0
    first.take_down_to(100)
    producer.tick()
    assert (len(first.buffer), len(second.buffer)) == (200, 400), "one that is due is taken all the same"
    first.take_down_to(50)
    second.take_down_to(50)
    producer.begin_anew()
    producer.tick()
    assert (len(first.buffer), len(second.buffer)) == (200, 400)


def test_what_may_have_been_given_back_is_given_to_no_worker(
    bench: Bench, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.producer.tick()
    bench.run_s = 10.0
    monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.STALE_S", 1e-9)
    with monkeypatch.context() as lost:
        lost.setattr("ayb_jobs.failpoints.reach", answer_lost)
        with pytest.raises(OperationalError):
            bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (0,)
    assert len(bench.buffer) == 0
    bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (len(bench.buffer),)
    assert bench.releaser.take_back() == []


def test_what_was_leased_in_a_lost_answer_goes_back_and_a_locked_row_delays_no_other(
    bench: Bench, conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as lost:
        lost.setattr("ayb_jobs.runtime.jobs.look.lease_jobs", lease_and_lose)
        with pytest.raises(OperationalError):
            bench.producer.tick()
    (locked,) = conn.execute("SELECT id FROM _ayb_jobs WHERE state = 'running' LIMIT 1").fetchone() or ()
    with closing(connect(database_url, name="operator")) as operator, operator.transaction():
        operator.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (locked,))
        assert 0 < bench.producer.tick() <= LOOK_S
        assert conn.execute(RUNNING).fetchone() == (len(bench.buffer) + 1,)
    assert 0 < bench.producer.tick() <= LOOK_S
    assert conn.execute(RUNNING).fetchone() == (len(bench.buffer) + 1,), "it looked again before a second was over"
    monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.time.monotonic", later(LOOK_S))
    bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (len(bench.buffer),)
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs WHERE state = 'queued'").fetchall() == [(0,)]


def test_what_is_leased_only_after_its_answer_was_lost_goes_back_too(
    bench: Bench, conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect(database_url, name="server")) as server, server.transaction():
        lease_jobs(server, worker_id="w", lanes=LANES, types=["test"], limit=10, lease_s=300)
        with monkeypatch.context() as lost:
            lost.setattr("ayb_jobs.runtime.jobs.look.lease_jobs", lambda *_, **__: answer_lost("leased"))
            with pytest.raises(OperationalError):
                bench.producer.tick()
        bench.producer.tick()
        bench.take_down_to(0)
        held = len(bench.in_flight)
    monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.time.monotonic", later(LOOK_S))
    monkeypatch.setattr(bench.look, "_room", lambda: 0)
    assert conn.execute(RUNNING).fetchone() == (held + 10,)
    bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (held,)
    assert 0 < bench.producer.tick() <= POLL_S
    monkeypatch.setattr("ayb_jobs.runtime.jobs.releaser.time.monotonic", later(120))
    assert 0 < bench.producer.tick() <= POLL_S
    assert not bench.releaser._owes


@pytest.mark.parametrize(
    ("error", "may_have_leased"),
    [
        (errors.UndefinedTable(), False),
        (errors.QueryCanceled(), False),
        (errors.AdminShutdown(), True),
        (OperationalError(), True),
    ],
)
def test_what_the_server_refused_is_not_looked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, *, may_have_leased: bool
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("ayb_jobs.runtime.jobs.look.lease_jobs", fail)
    with suppress(type(error)):  # what may be the fault of some jobs is leased job by job
        bench.producer.tick()
    assert bench.releaser._owes == may_have_leased


def test_a_lost_answer_is_looked_for_until_a_look_succeeds(
    bench: Bench, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.storage.database.LATE_S", -1000.0)  # the outage is longer than that
    with monkeypatch.context() as lost:
        lost.setattr("ayb_jobs.runtime.jobs.look.lease_jobs", lease_and_lose)
        with pytest.raises(OperationalError):
            bench.producer.tick()
        lost.setattr("ayb_jobs.runtime.jobs.releaser.find_orphans", lambda *_, **__: answer_lost("look"))
        with pytest.raises(OperationalError):
            bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (200,)
    monkeypatch.setattr(bench.look, "_room", lambda: 0)
    bench.producer.tick()
    assert conn.execute(RUNNING).fetchone() == (0,)


def lease_and_lose(*args: Any, **values: Any) -> NoReturn:
    """Lease, as where the connection breaks before the answer comes."""
    lease_jobs(*args, **values)
    answer_lost("leased")


def later(seconds: float) -> Callable[[], float]:
    """Return a clock that is so much ahead."""
    monotonic = time.monotonic
    return lambda: monotonic() + seconds


LANES = [Lane("default", priority) for priority in range(1, 5)]


def answer_lost(_step: str) -> NoReturn:
    """Fail once the statement is carried out, as where the connection breaks before its answer comes."""
    raise OperationalError("server closed the connection unexpectedly")


RUNNING = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'"


def test_a_notification_is_followed_by_a_lease_without_another_thread(bench: Bench) -> None:
    assert 0 < bench.producer.notified() <= releaser.STALE_S  # it looks after what waits in the buffer
    assert len(bench.buffer) == 200
    assert bench.wakes == 0


def test_a_notification_during_a_turn_asks_for_another(bench: Bench) -> None:
    with bench.producer._turn:
        assert bench.producer.notified() == math.inf
    assert len(bench.buffer) == 0
    assert bench.wakes == 1


def test_what_a_notified_look_leaves_to_a_sweep_is_asked_for_soon(
    bench: Bench, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute("DELETE FROM _ayb_jobs")
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 0.3)
    assert bench.producer.notified() == 0.3
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 0.0)
    assert bench.producer.notified() == math.inf


def test_a_notified_look_that_fails_is_counted_and_left_to_the_next_turn(bench: Bench, conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_jobs RENAME TO elsewhere")
    assert bench.producer.notified() == math.inf
    assert [type(event) for event in bench.events] == [LoopErrorRepeated]
    assert bench.wakes == 1
    conn.execute("ALTER TABLE elsewhere RENAME TO _ayb_jobs")
    bench.producer.tick()
    assert len(bench.buffer) == 200


def test_a_locked_job_that_is_to_be_given_back_keeps_no_other_from_being_leased(
    bench: Bench, conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releaser, "STALE_S", 0.001)
    monkeypatch.setattr(releaser, "LOOK_S", 0.0)
    bench.producer.tick()
    time.sleep(0.002)
    bench.run_s = 0.05  # so that there is room for four
    stale = bench.buffer.take()
    assert stale is not None
    bench.buffer.put([stale])
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (stale.job.id,))
        bench.producer.tick()
        assert conn.execute(RUNNING).fetchone() == (5,)
        assert len(bench.buffer) == 4
    bench.producer.tick()
    state = conn.execute("SELECT state, attempts FROM _ayb_jobs WHERE id = %s", (stale.job.id,)).fetchone()
    assert state == ("queued", 0)


def test_a_look_by_turn_that_falls_short_is_followed_by_one_that_is_not(
    db: Database, conn: Connection, database_url: str
) -> None:
    insert = "INSERT INTO _ayb_jobs (type, queue, priority) SELECT 'test', %s, %s FROM generate_series(1, %s)"
    bench = Bench(db, queues=("a", "b"))
    conn.execute(insert, ("a", 1, 200))
    bench.producer.tick()
    assert len(bench.buffer) == 200
    conn.execute(insert, ("a", 1, 200))
    conn.execute(insert, ("b", 2, 50))
    bench.take_down_to(0)
    with closing(connect(database_url)) as other, other.transaction():
        other.execute("SELECT FROM _ayb_jobs WHERE queue = 'a' FOR UPDATE")
        assert bench.producer.tick() == 0.0
        assert len(bench.buffer) == 0
        bench.producer.tick()
        assert len(bench.buffer) == 50


def test_jobs_for_other_executors_are_walked_once_and_not_at_each_look(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "LONG_WALK_S", 0.0)
    insert = (
        "INSERT INTO _ayb_jobs (type, run_at) SELECT %s, now() - %s * interval '1 second' FROM generate_series(1, %s)"
    )
    conn.execute(insert, ("of others", 60, 3000))
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 60.0)
    bench = Bench(db)
    bench.producer.tick()
    walked = walked_by(bench, conn)
    assert walked < 100
    conn.execute(insert, ("test", 0, 1))
    bench.producer.tick()
    assert len(bench.buffer) == 1
    conn.execute(insert, ("test", 30, 1))
    bench.producer.tick()
    assert len(bench.buffer) == 1, "what was due before the floor is found by a sweep"
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 0.0)
    bench.producer.tick()
    assert len(bench.buffer) == 2


def walked_by(bench: Bench, conn: Connection) -> int:
    """Return how many entries of the index of what is ready one more look reads."""
    before = ready_entries_read(bench, conn)
    bench.producer.tick()
    return ready_entries_read(bench, conn) - before


def ready_entries_read(bench: Bench, conn: Connection) -> int:
    with bench.db.connection() as ours:
        ours.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(
        "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'idx_ayb_jobs_ready'"
    ).fetchone()
    return int(row[0]) if row else 0
