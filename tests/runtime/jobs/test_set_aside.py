"""What is set aside keeps no loop busy, and nothing else waiting."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from psycopg import OperationalError
from psycopg.errors import RaiseException

from ayb_jobs.events import JobsSettled, LeasesLost, RowsSetAside
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.runtime import narrowing
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs import careful_leasing, writing
from ayb_jobs.runtime.jobs import completer as completer_module
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.lease_keeper import LeaseKeeper
from ayb_jobs.runtime.jobs.releaser import release_each
from ayb_jobs.runtime.jobs.sweep import SweepClock
from ayb_jobs.runtime.narrowing import MOST_REFUSED
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from tests.completing import Completing, lease
from tests.eventually import eventually
from tests.factories import make_job
from tests.producing import Producing, producing

POLL_S = 60.0


@contextmanager
def refusing(conn: Connection, step: str, body: str) -> Iterator[None]:
    """Have a trigger treat rows of the payload `{"bad": true}` in a step of a job's life."""
    conn.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
            WHEN (old.payload ? 'bad' AND {step}) EXECUTE FUNCTION refuse();
    """)
    yield
    conn.execute("DROP TRIGGER refuse ON _ayb_jobs")


LEASED = "old.state = 'queued' AND new.state = 'running'"
EXTENDED = "old.state = 'running' AND new.state = 'running'"
GIVEN_BACK = "old.state = 'running' AND new.state = 'queued'"
SETTLED = "old.state = 'running' AND new.state = 'completed'"


def make_jobs(conn: Connection, number: int, *, bad: bool) -> None:
    payload = '{"bad": true}' if bad else "{}"
    conn.execute(
        "INSERT INTO _ayb_jobs (type, payload, run_at) SELECT 'test', %s, now() - %s * interval '1 minute'"
        " FROM generate_series(1, %s)",
        (payload, 2 if bad else 1, number),
    )


def producer_of(db: Database, buffer: Buffer, *, concurrency: int) -> Producing:
    in_flight = InFlight()
    return producing(db, buffer, in_flight, poll_s=POLL_S, concurrency=concurrency, mean_run_s=lambda: None)


def test_an_ending_that_waits_for_the_database_outlives_one_that_was_refused(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    completing = Completing(db, conn)
    completer, in_flight = completing.completer, completing.in_flight
    with refusing(conn, SETTLED, "RAISE EXCEPTION 'refused'"):
        completing.end_one(payload={"bad": True})
        completer.tick()
        completing.end_one()
        with monkeypatch.context() as outage:
            outage.setattr(writing, "settle_jobs", lost_connection)
            with pytest.raises(OperationalError):
                settle_all(completing)
    completer.hurry()
    settle_all(completing)
    assert conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("completed",)]
    assert len(in_flight) == 0


def test_a_lease_is_extended_when_a_third_of_it_is_over_whenever_it_was_taken(db: Database, conn: Connection) -> None:
    completing = Completing(db, conn)
    keeper = LeaseKeeper(
        database=db, in_flight=completing.in_flight, emit=completing.told.append, lease_s=300.0, wake=lambda: None
    )
    old, young = completing.lease_one(), completing.lease_one()
    old.extended, young.extended = time.monotonic() - 90.0, time.monotonic() - 60.0
    assert keeper.tick() <= 40.0
    assert old.extended > young.extended
    young.extended -= 20.0  # the next turn comes when it is due, and takes it
    assert keeper.tick() > 90.0
    assert young.extended > old.extended


def settle_all(completing: Completing) -> None:
    """Have all endings written; the completer may wait a moment for more of them."""
    while completing.completer.pending:
        completing.completer.tick()


def lost_connection(*_: object, **__: object) -> set[str]:
    raise OperationalError("the connection is lost")


def test_the_lease_keeper_rests_once_a_job_is_gone_whose_lease_could_not_be_extended(
    db: Database, conn: Connection
) -> None:
    make_job(conn, payload={"bad": True})
    in_flight = InFlight()
    (held,) = in_flight.add([lease(conn)], 0.0)
    keeping = LeaseKeeper(database=db, in_flight=in_flight, emit=lambda _: None, lease_s=3.0, wake=lambda: None)
    with refusing(conn, EXTENDED, "RAISE EXCEPTION 'refused'"):
        keeping.suspect()
        keeping.tick()
    keeping._aside.waits.end_all()
    in_flight.remove([held.job.lease_id])
    assert keeping.tick() == 1.0


def test_a_producer_without_room_does_not_hurry_for_what_is_set_aside(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_leasing, "FIRST_RETRY_S", 0.0)
    make_jobs(conn, 1, bad=True)
    make_jobs(conn, 1, bad=False)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 2
    producer = producer_of(db, buffer, concurrency=2).producer
    with refusing(conn, LEASED, "RAISE EXCEPTION 'refused'"):
        assert producer.tick() == 0.0  # the refused one is tried again at once
        assert len(buffer) == 1
        buffer.idle = 1  # all the rest are busy
        assert producer.tick() == POLL_S


def test_any_number_of_jobs_that_are_refused_again_keep_no_other_from_being_leased(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_leasing, "FIRST_RETRY_S", 0.0)
    make_jobs(conn, 2 * MOST_REFUSED, bad=True)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4 * MOST_REFUSED
    producer, _, look = producer_of(db, buffer, concurrency=buffer.idle)

    with refusing(conn, LEASED, "RAISE EXCEPTION 'refused'"):
        while len(look._careful.aside()) < 2 * MOST_REFUSED:
            with suppress(RaiseException):
                producer.tick()
        make_jobs(conn, 1, bad=False)
        producer.tick()
        assert len(buffer) == 1


@pytest.mark.parametrize("longest_turn_s", [0.0, 3600.0])
@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'refused'", "RETURN NULL"])
def test_jobs_behind_many_that_are_refused_are_leased_without_a_pause(
    db: Database, conn: Connection, body: str, longest_turn_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_leasing, "CHECK_S", 0.0)
    monkeypatch.setattr(careful_leasing, "FOUND_AT_ONCE", MOST_REFUSED)
    monkeypatch.setattr(careful_leasing, "LONGEST_TURN_S", longest_turn_s)
    monkeypatch.setattr(careful_leasing, "FIRST_RETRY_S", POLL_S)
    monkeypatch.setattr(SweepClock, "wait_s", lambda _: 0.0)
    make_jobs(conn, 3 * MOST_REFUSED, bad=True)
    make_jobs(conn, 4, bad=False)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    producer = producer_of(db, buffer, concurrency=4).producer
    turns = 1
    with refusing(conn, LEASED, body):
        while producer.tick() == 0 and not len(buffer):
            turns += 1
    assert len(buffer) == 4
    assert (turns == 1) is (longest_turn_s > 0)


@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'refused'", "RETURN NULL"])
def test_many_jobs_that_cannot_be_leased_are_told_in_one_line(
    db: Database, conn: Connection, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_leasing, "CHECK_S", 0.0)
    make_jobs(conn, 3, bad=True)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 8
    told: list[object] = []
    producer = producing(db, buffer, InFlight(), concurrency=8, emit=told.append).producer
    with refusing(conn, LEASED, body), suppress(RaiseException):
        producer.tick()
    assert [len(event.row_ids) for event in told if isinstance(event, RowsSetAside)] == [3]


@pytest.mark.parametrize("own_type", [True, False])
@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'refused'", "RETURN NULL"])
def test_endings_behind_many_that_are_refused_are_written_without_a_pause(
    db: Database, conn: Connection, body: str, own_type: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "MOST_REFUSED", 4)
    monkeypatch.setattr(completer_module, "BATCH", 8)
    monkeypatch.setattr(completer_module, "PACE_S", 0.0)
    completing = Completing(db, conn)
    make_jobs(conn, 40, bad=True)
    make_jobs(conn, 1, bad=False)
    leased = completing.in_flight.add(lease_all(conn, 41), 0.0)
    for held in leased:
        job = held.job._replace(type="bad") if own_type and held is not leased[-1] else held.job
        completing.completer.settle(held, settle_result(job, None, 0.0, 0.0))
    good, turns = leased[-1].job.id, 0
    with refusing(conn, SETTLED, body):
        while [event.settlements[0].job.id for event in completing.of(JobsSettled)] != [good]:
            assert completing.completer.tick() == 0
            turns += 1
    assert turns <= (3 if own_type else 20)


@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'refused'", "RETURN NULL"])
def test_many_leases_that_cannot_be_extended_are_told_in_one_line(db: Database, conn: Connection, body: str) -> None:
    make_jobs(conn, 3, bad=True)
    in_flight = InFlight()
    in_flight.add(lease_all(conn), 0.0)
    told: list[object] = []
    keeping = LeaseKeeper(database=db, in_flight=in_flight, emit=told.append, lease_s=3.0, wake=lambda: None)
    with refusing(conn, EXTENDED, body):
        keeping.suspect()
        keeping.tick()
    assert [len(event.row_ids) for event in told if isinstance(event, RowsSetAside)] == [3]


@pytest.mark.parametrize("body", ["RAISE EXCEPTION 'refused'", "RETURN NULL"])
def test_many_jobs_that_cannot_be_given_back_are_told_in_one_line(db: Database, conn: Connection, body: str) -> None:
    make_jobs(conn, 3, bad=True)
    leases = [job.lease for job in lease_all(conn)]
    told: list[object] = []
    with refusing(conn, GIVEN_BACK, body):
        released = release_each(db, leases, Aside(told.append, part="releaser", table="_ayb_jobs"), worker_id="w")
    assert len(released.refused) == 3
    assert [len(event.row_ids) for event in told if isinstance(event, RowsSetAside)] == [3]


def lease_all(conn: Connection, limit: int = 9) -> list[LeasedJob]:
    return list(lease_jobs(conn, worker_id="w", lanes=[Lane("default", 2)], types=["test"], limit=limit, lease_s=60))


def test_what_a_trigger_passes_over_in_silence_is_found_batch_after_batch(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_leasing, "CHECK_S", 0.0)
    make_jobs(conn, 20, bad=True)
    buffer = Buffer(on_low=lambda: None)
    buffer.idle = 4
    producer = producer_of(db, buffer, concurrency=4).producer
    monkeypatch.setattr(careful_leasing, "CHECK_S", 3600.0)
    with refusing(conn, LEASED, "RETURN NULL"):
        make_jobs(conn, 1, bad=False)

        def look() -> bool:
            producer.tick()
            return len(buffer) == 1

        eventually(look)


def test_what_has_ended_and_is_being_settled_is_not_lost(db: Database, conn: Connection) -> None:
    completing = Completing(db, conn)
    ended, running = completing.lease_one(), completing.lease_one()
    completing.completer.settle(ended, settle_result(ended.job, None, 0.0, 0.0))
    conn.execute("UPDATE _ayb_jobs SET state = 'completed', lease_id = NULL, lease_until = NULL, completed_at = now()")
    told: list[object] = []
    keeper = LeaseKeeper(database=db, in_flight=completing.in_flight, emit=told.append, lease_s=60.0, wake=lambda: None)
    keeper.suspect()
    keeper.tick()
    assert [event.job_ids for event in told if isinstance(event, LeasesLost)] == [[running.job.id]]
