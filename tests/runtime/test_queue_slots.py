"""A queue fills the slots that it may fill and no more, whatever runs its jobs, and keeps no other queue waiting."""

import asyncio
import threading

import pytest

from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held, InFlight
from ayb_jobs.runtime.jobs.lanes import Lanes
from ayb_jobs.runtime.jobs.queue_slots import QueueSlots
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.queue.chosen import lease_chosen
from ayb_jobs.storage.queue.lanes import NO_FLOOR, Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.eventually import eventually
from tests.factories import make_job
from tests.producing import producing
from tests.running import running
from tests.runtime.executors import isolated_jobs

INSERT = "INSERT INTO _ayb_jobs (type, payload, queue, priority) SELECT %s, '{\"n\": 1}', %s, 1 + number %% 4 FROM generate_series(1, %s) AS number"
# Counts after each statement, with what was committed before and what it did itself.
WATCH = """
    CREATE TABLE at_once (jobs int);
    CREATE FUNCTION count_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO at_once SELECT count(*) FROM _ayb_jobs WHERE queue = 'slow' AND state = 'running';
        RETURN NULL;
    END $$;
    CREATE TRIGGER watch AFTER UPDATE ON _ayb_jobs FOR EACH STATEMENT EXECUTE FUNCTION count_slow();
"""


def registry_of_all_kinds() -> Registry:
    """Return handlers in threads, on the event loop and in child processes."""
    registry = Registry()

    @registry.handler("threaded")
    def _(context: JobContext) -> None:
        threading.Event().wait(0.02)

    @registry.handler("asynchronous")
    async def _(context: AsyncJobContext) -> None:
        await asyncio.sleep(0.02)

    registry.merge(isolated_jobs.registry)
    return registry


def done(conn: Connection) -> int:
    (count,) = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'completed'").fetchone() or (0,)
    return int(count)


@pytest.mark.parametrize("limited", [False, True])
def test_a_queue_fills_no_more_slots_than_it_may_whatever_runs_its_jobs(
    database_url: str, conn: Connection, limited: bool
) -> None:
    conn.execute(WATCH)
    if limited:
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="some", types=["threaded", "asynchronous"], max_running=50), by="ada")
    for job_type in ("threaded", "asynchronous", "innocent"):
        conn.execute(INSERT, (job_type, "slow", 12))
    conn.execute(INSERT, ("threaded", "quick", 12))
    slots = {"slow": 2}
    # Only what ends makes room: nothing else wakes the producer in time.
    with running(database_url, registry_of_all_kinds(), slots=slots, queues=["slow", "quick"], poll_interval_ms=60_000):
        eventually(lambda: done(conn) == 48, within_s=30)
    assert conn.execute("SELECT max(jobs) FROM at_once").fetchone() == (2,)


def test_a_full_queue_keeps_no_other_waiting(db: Database, conn: Connection) -> None:
    buffer, in_flight = Buffer(on_low=lambda: None), InFlight()
    producer, *_ = producing(
        db, buffer, in_flight, queues=["slow", "quick"], slots={"slow": 2}, concurrency=9, mean_run_s=lambda: 0.01
    )
    conn.execute(INSERT, ("test", "slow", 100))
    conn.execute(INSERT, ("test", "quick", 5))
    while producer.tick() == 0.0:
        pass
    assert sorted(held.job.queue for held in buffer.take_back()) == ["quick"] * 5 + ["slow"] * 2


def test_what_a_sweep_leaves_out_is_looked_for_from_the_bottom_once_there_is_a_slot() -> None:
    lanes = Lanes(["slow", "quick"])
    lanes._lanes = [lane._replace(floor_run_at="2026-01-01") for lane in lanes._lanes]
    assert {lane.queue for lane in lanes.now(9, {"slow": 0}, sweeping=True)} == {"quick"}
    assert {lane.queue for lane in lanes.now(9, {"slow": 0}, sweeping=False)} == {"quick"}
    floors = {lane.queue: lane.floor_run_at for lane in lanes.now(9, {"slow": 1}, sweeping=False)}
    assert floors == {"slow": NO_FLOOR[0], "quick": "2026-01-01"}
    floors = {lane.queue: lane.floor_run_at for lane in lanes.now(9, {"slow": 1}, sweeping=False)}
    assert floors == {"slow": "2026-01-01", "quick": "2026-01-01"}


def test_what_a_look_leaves_in_a_queue_is_looked_for_though_another_slot_of_it_was_freed_meanwhile(
    db: Database, conn: Connection
) -> None:
    buffer, in_flight = Buffer(on_low=lambda: None), InFlight()
    producer, *_ = producing(
        db, buffer, in_flight, queues=["slow"], slots={"slow": 1}, concurrency=9, mean_run_s=lambda: 0.01
    )
    conn.execute(INSERT, ("test", "slow", 3))
    for _ in range(3):
        assert producer.tick() == 0.0
        (held,) = buffer.take_back()
        in_flight.remove([held.job.lease_id])  # its ending is not heard
    assert producer.tick() > 0.0


def test_a_look_that_was_refused_is_asked_once_a_slot_is_said_to_be_free(db: Database, conn: Connection) -> None:
    buffer, in_flight = Buffer(on_low=lambda: None), InFlight()
    producer, _, look = producing(
        db, buffer, in_flight, queues=["slow"], slots={"slow": 1}, concurrency=9, mean_run_s=lambda: 0.01
    )
    conn.execute(INSERT, ("test", "slow", 2))
    while producer.tick() == 0.0:
        pass
    producer.slot_freed("other")
    assert not look.backlog.asks
    producer.slot_freed("slow")
    assert look.backlog.asks


def test_a_handler_that_runs_on_after_its_attempt_was_settled_fills_its_slot(conn: Connection) -> None:
    make_job(conn, queue="slow")
    (job,) = lease_jobs(conn, worker_id="w", lanes=[Lane("slow", 2)], types=["test"], limit=1, lease_s=60)
    runs = [Held(job, 0.0)]
    slots = QueueSlots({"slow": 2, "other": 1}, running=lambda: runs)
    assert slots.free() == {"slow": 1, "other": 1}
    runs.clear()
    assert slots.free() == {"slow": 2, "other": 1}


def test_a_look_that_was_refused_is_asked_though_another_found_the_slot_free_before_its_ending_was_heard(
    conn: Connection,
) -> None:
    make_job(conn, queue="slow")
    (job,) = lease_jobs(conn, worker_id="w", lanes=[Lane("slow", 2)], types=["test"], limit=1, lease_s=60)
    runs = [Held(job, 0.0)]
    slots = QueueSlots({"slow": 1, "other": 1}, running=lambda: runs)
    assert not slots.freed(["slow"])
    assert slots.free() == {"slow": 0, "other": 1}
    runs.clear()
    assert slots.free() == {"slow": 1, "other": 1}
    assert slots.full == {"slow"}
    assert not slots.freed(["other"])
    assert slots.freed(["slow"])
    assert not slots.freed(["slow"])
    assert slots.free() == {"slow": 1, "other": 1}
    assert slots.full == frozenset()


def test_a_slot_that_is_freed_while_they_are_counted_is_heard_of(conn: Connection) -> None:
    make_job(conn, queue="slow")
    (job,) = lease_jobs(conn, worker_id="w", lanes=[Lane("slow", 2)], types=["test"], limit=1, lease_s=60)
    heard = []

    def running_while_it_ends() -> list[Held]:
        heard.append(slots.freed(["slow"]))
        return [Held(job, 0.0)]

    slots = QueueSlots({"slow": 1}, running=running_while_it_ends)
    assert slots.free() == {"slow": 0}
    assert heard == [True]


def test_of_chosen_jobs_too_a_queue_gets_what_it_has_room_for(conn: Connection) -> None:
    ids = [make_job(conn, queue="slow", priority=priority) for priority in (3, 1, 2)]
    others = [make_job(conn, queue="quick") for _ in range(2)]
    chosen = lease_chosen(conn, ids + others, worker_id="w", rooms={"slow": 2, "quick": 9}, types=["test"], lease_s=60)
    assert [job.id for job in chosen.leased if job.queue == "slow"] == [ids[1], ids[2]]
    assert {job.id for job in chosen.leased} == {ids[1], ids[2], *others}
    assert chosen.unchanged == []
