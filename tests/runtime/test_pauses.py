"""Pauses: what is paused is not leased, what was leased is given back, and each daemon confirms it."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import sql
from psycopg.errors import CheckViolation

from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.pause_watch import PauseWatch
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import pausable, pauses
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.queue.chosen import lease_chosen
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.turns import find_due
from ayb_jobs.storage.schedules.overdue import list_overdue
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.producing import producing
from tests.running import running

QUEUE, TYPE = PauseKind.QUEUE, PauseKind.TYPE
NOBODY = "01890000-0000-7000-8000-00000000000a"
LANES = [Lane("default", 2), Lane("slow", 2)]


def pause(conn: Connection, kind: PauseKind = QUEUE, name: str = "default", **given: Any) -> int:
    with conn.transaction():
        return pauses.pause(conn, NewPause(kind=kind, name=name, **given), by="ada").id


def resume(conn: Connection, kind: PauseKind = QUEUE, name: str = "default") -> None:
    with conn.transaction():
        assert pauses.resume(conn, kind, name) is not None


def leased(conn: Connection, aside: tuple[str, ...] = ()) -> list[str]:
    jobs = lease_jobs(conn, worker_id="w", lanes=LANES, types=["a", "b"], limit=9, lease_s=60, aside=aside)
    return [job.id for job in jobs]


@pytest.mark.parametrize("aside", [(), (NOBODY,)])
def test_what_is_paused_is_not_leased_and_the_rest_is(conn: Connection, aside: tuple[str, ...]) -> None:
    job_a, job_b = make_job(conn, type="a"), make_job(conn, type="b")
    slow = make_job(conn, type="a", queue="slow")
    pause(conn, QUEUE, "slow")
    pause(conn, TYPE, "b")
    due = find_due(conn, lanes=LANES, types=["a", "b"], limit=9, aside=[])
    assert due == [job_a]
    chosen = lease_chosen(
        conn, [job_b, slow], worker_id="w", rooms={"default": 9, "slow": 9}, types=["a", "b"], lease_s=60
    )
    assert chosen == ([], [])
    assert leased(conn, aside) == [job_a]
    resume(conn, TYPE, "b")
    assert leased(conn, aside) == [job_b]
    resume(conn, QUEUE, "slow")
    assert leased(conn, aside) == [slow]


def test_a_pause_ends_by_itself(conn: Connection) -> None:
    make_job(conn, type="a")
    pause(conn, until=datetime.now(UTC) + timedelta(hours=1))
    assert leased(conn) == []
    conn.execute("UPDATE _ayb_job_pauses SET until = now() - interval '1 s'")
    assert pauses.list_pauses(conn) == []
    assert len(leased(conn)) == 1
    with conn.transaction():
        assert pauses.resume(conn, QUEUE, "default") is None


def test_a_later_pause_has_a_higher_number_whichever_commits_first(conn: Connection, database_url: str) -> None:
    numbers = []
    with closing(connect(database_url)) as other:
        with other.transaction():
            numbers.append(pauses.pause(other, NewPause(kind=QUEUE, name="a"), by="ada").id)
            second = threading.Thread(target=lambda: numbers.append(pause(conn, QUEUE, "b")))
            second.start()
            eventually(lambda: other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
            seen = pauses.watch_pauses(other, worker_id="w")
            assert seen.queues == {"a"}
        second.join(20)
    assert numbers == sorted(numbers)


def test_buffered_jobs_of_what_is_paused_are_given_back_before_it_is_confirmed(db: Database, conn: Connection) -> None:
    kept, given_back = make_job(conn, type="test", priority=1), make_job(conn, type="test")
    conn.execute("INSERT INTO _ayb_job_workers VALUES ('w', 'h', 1, '1', 1, '{default}', '{test}')")
    paused, in_flight = Paused(), InFlight()
    buffer = Buffer(on_low=lambda: None, paused=paused)
    buffer.idle = 4
    producer, *_ = producing(db, buffer, in_flight)
    watch = PauseWatch(database=db, worker_id="w", paused=paused, in_flight=in_flight, on_change=producer.begin_anew)
    producer.tick()
    running_one = buffer.take()
    assert running_one is not None
    running_one.started = time.monotonic()
    number = pause(conn)
    watch.tick()
    assert confirmed(conn) is None  # one waits in the buffer
    producer.tick()
    assert len(buffer) == 0
    row = conn.execute("SELECT state, attempts FROM _ayb_jobs WHERE id = %s", (given_back,)).fetchone()
    assert row == ("queued", 0)
    watch.tick()
    assert confirmed(conn) == number
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (kept,)).fetchone() == ("running",)


def confirmed(conn: Connection) -> int | None:
    row = conn.execute("SELECT pauses_confirmed FROM _ayb_job_workers").fetchone()
    number: int | None = row[0] if row else None
    return number


def test_jobs_below_the_floors_are_found_as_soon_as_a_type_is_resumed(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.jobs.sweep.SweepClock.wait_s", lambda _: 9.0)  # no sweep finds them
    paused, in_flight = Paused(), InFlight()
    buffer = Buffer(on_low=lambda: None, paused=paused)
    buffer.idle = 9
    producer, *_ = producing(db, buffer, in_flight)
    watch = PauseWatch(database=db, worker_id="w", paused=paused, in_flight=in_flight, on_change=producer.begin_anew)
    old = make_job(conn, type="test", run_at=sql.SQL("now() - interval '1 hour'"), queue="other")
    make_job(conn, type="test")
    producer.tick()
    assert buffer.take() is not None
    conn.execute("UPDATE _ayb_jobs SET queue = 'default' WHERE id = %s", (old,))
    pause(conn, TYPE, "other")
    watch.tick()
    producer.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (old,)).fetchone() == ("running",)


@pytest.mark.parametrize("until", ["infinity", "294276-12-31"])
def test_a_pause_until_the_end_of_time_holds_and_is_confirmed(each_empty_database_url: str, until: str) -> None:
    url = each_empty_database_url
    worker = DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
    with closing(connect(url)) as conn, closing(Database(url, name="test")) as db:
        migrate(conn)
        beat(conn, worker)
        insert = "INSERT INTO _ayb_job_pauses (kind, name, paused_by, until) VALUES ('queue', 'a', 'sql', %s)"
        conn.execute(insert, (until,))
        paused = Paused()
        watch = PauseWatch(database=db, worker_id="w", paused=paused, in_flight=InFlight(), on_change=lambda: None)
        assert watch.tick() > 3600
        assert paused.any
        assert beat(conn, worker).confirmed


WORKER = DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


def test_a_type_is_paused_whatever_characters_the_reason_of_its_job_holds(db: Database, conn: Connection) -> None:
    paused = Paused()
    paused.ask_for("test", "revoked:\x00 \ud800")
    PauseWatch(database=db, worker_id="w", paused=paused, in_flight=InFlight(), on_change=lambda: None).tick()
    assert not paused.asked
    found = pauses.find_pause(conn, queue="", type="test")
    assert found is not None
    assert found.reason == "revoked:\ufffd ?"


def test_a_type_that_cannot_be_paused_keeps_no_other_pause_from_being_confirmed(db: Database, conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_pauses ADD CONSTRAINT of_the_application CHECK (name <> 'kept')")
    beat(conn, WORKER)
    paused = Paused()
    watch = PauseWatch(database=db, worker_id="w", paused=paused, in_flight=InFlight(), on_change=lambda: None)
    paused.ask_for("kept", "why")
    paused.ask_for("test", "why")
    pause(conn, QUEUE, "a")
    with pytest.raises(CheckViolation):
        watch.tick()
    assert pauses.find_pause(conn, queue="", type="test") is not None
    assert paused.any
    assert beat(conn, WORKER).confirmed
    conn.execute("ALTER TABLE _ayb_job_pauses DROP CONSTRAINT of_the_application")
    watch.tick()
    assert pauses.find_pause(conn, queue="", type="kept") is not None


def test_a_beat_finds_pauses_that_began_and_ended_unheard(db: Database, conn: Connection) -> None:
    rung: list[int] = []
    worker = DaemonRecord(id="w", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
    heartbeat = Heartbeat(database=db, daemon=worker, emit=lambda _: None, on_pauses=lambda: rung.append(1))
    paused = Paused()
    watch = PauseWatch(database=db, worker_id="w", paused=paused, in_flight=InFlight(), on_change=lambda: None)

    def beats() -> bool:
        rung.clear()
        heartbeat.tick()
        watch.tick()
        return bool(rung)

    assert [beats(), beats()] == [True, False]
    pause(conn, QUEUE, "a")
    pause(conn, QUEUE, "b")
    assert [beats(), beats()] == [True, False]
    resume(conn, QUEUE, "a")
    assert [beats(), beats()] == [True, False]
    resume(conn, QUEUE, "b")
    assert [beats(), beats()] == [True, False]
    assert not paused.any


class Handlers:
    """Handlers that end when they are told to, and note when they began."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began: list[float] = []
        self.registry = Registry()
        self.registry.handler("test")(self.run)

    def run(self, _: JobContext) -> None:
        self.began.append(time.monotonic())
        self.go.wait(20)


@pytest.mark.parametrize("notify", [True, False])
def test_nothing_of_a_paused_queue_starts_once_all_daemons_confirmed(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, *, notify: bool
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.fleet.heartbeat.BEAT_S", 0.2)
    handlers = Handlers()
    for _ in range(50):
        make_job(conn)
    with (
        running(database_url, handlers.registry, notify=notify, worker_concurrency=2, poll_interval_ms=100) as first,
        running(database_url, handlers.registry, notify=notify, worker_concurrency=2),
    ):
        eventually(lambda: len(handlers.began) == 4)
        number = pause(conn)
        eventually(lambda: waiting_for(conn) == [])
        at = time.monotonic()
        handlers.go.set()
        eventually(lambda: find(conn).running == 0)
        assert all(began < at for began in handlers.began)
        assert find(conn).due == 46
        assert number > 0
        resume(conn)
        eventually(lambda: find(conn).due == 0)
        assert first.daemon is not None


# How long a daemon's row takes to be written; a lease that does not wait for it is noted.
SLOW_ROWS = """
    CREATE TABLE early (worker_id text);
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON _ayb_job_workers FOR EACH ROW EXECUTE FUNCTION slow();
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT EXISTS (SELECT FROM _ayb_job_workers WHERE id = NEW.worker_id) THEN
                INSERT INTO early VALUES (NEW.worker_id);
            END IF;
            RETURN NEW;
        END
    $$;
    CREATE TRIGGER note BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (NEW.state = 'running') EXECUTE FUNCTION note()
"""


def test_a_daemon_that_starts_is_waited_for_before_it_leases_anything(database_url: str, conn: Connection) -> None:
    conn.execute(SLOW_ROWS)
    handlers = Handlers()
    handlers.go.set()
    make_job(conn)
    with running(database_url, handlers.registry):
        eventually(lambda: len(handlers.began) == 1)
    assert conn.execute("SELECT worker_id FROM early").fetchall() == []


REFUSED_ROWS = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no rows here''; END';
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON _ayb_job_workers FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def test_a_daemon_whose_row_is_refused_works_all_the_same(database_url: str, conn: Connection) -> None:
    conn.execute(REFUSED_ROWS)
    handlers = Handlers()
    handlers.go.set()
    make_job(conn)
    with running(database_url, handlers.registry):
        eventually(lambda: len(handlers.began) == 1)


def find(conn: Connection) -> Any:
    return pausable.find_pausable(conn, QUEUE, "default")


def waiting_for(conn: Connection) -> list[str]:
    return list(find(conn).waiting_for)


def test_a_slot_gives_back_what_was_paused_after_it_was_taken(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leasing statement under way when a pause commits may still bring jobs of it."""
    monkeypatch.setattr(PauseWatch, "tick", lambda _: 3600.0)  # it would find that nothing is paused
    handlers = Handlers()
    handlers.go.set()
    job_id = make_job(conn, run_at=sql.SQL("now() + interval '1 hour'"))
    with running(database_url, handlers.registry) as one:
        one.daemon._parts.executors.buffers[0].paused.become(frozenset({"default"}), frozenset())
        conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE id = %s", (job_id,))
        conn.execute("NOTIFY ayb_jobs")
        # It is leased and given back again and again.
        given_back = "SELECT attempts FROM _ayb_jobs WHERE state = 'queued' AND execution_id IS NOT NULL"
        eventually(lambda: conn.execute(given_back.encode()).fetchone() == (0,))
        assert handlers.began == []


def test_schedules_fire_into_a_paused_queue_and_their_alerts_name_it(database_url: str, conn: Connection) -> None:
    make_schedule(
        conn, name="nightly", job_type="test", cron_expr="* * * * * *", expect_success_within_s=1,
        created_at=sql.SQL("now() - interval '1 day'"), next_run_at=sql.SQL("now()"),
    )  # fmt: skip
    pause(conn)
    with running(database_url, Handlers().registry, scheduler_enabled=True):
        eventually(
            lambda: conn.execute("SELECT count(*) > 0 FROM _ayb_jobs WHERE state = 'queued'").fetchone() == (True,)
        )
        eventually(lambda: list_overdue(conn))
    (overdue,) = list_overdue(conn)
    assert overdue.words.endswith("; its queue default is paused")
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (0,)
