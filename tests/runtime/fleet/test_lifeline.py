"""Peers take over from the dead at once, and from the living never."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from psycopg.sql import SQL

from ayb_jobs.events import Emit, JobRecovered
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.fleet import lifeline
from ayb_jobs.runtime.fleet.lifeline import BUSY_TURN_S, FOR_EVER_S, IDLE_TURN_S, LifelineKeeper
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.daemons import beat
from tests.eventually import eventually
from tests.factories import make_job
from tests.pgbouncer import PgBouncer
from tests.running import running


def worker(name: str) -> DaemonRecord:
    return DaemonRecord(id=name, host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


@contextmanager
def keeper(
    db: Database, name: str, emit: Emit = lambda _: None, on_dead: Sequence[Callable[[], None]] = ()
) -> Iterator[LifelineKeeper]:
    made = LifelineKeeper(
        database=db,
        url=db.url,
        daemon=worker(name),
        emit=emit,
        backoff=Backoff(),
        max_crashes=3,
        lease_s=300.0,
        wake=lambda: None,
        on_dead=on_dead,
    )
    with closing(made):
        yield made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "SETTLE_S", 0.0)


def test_a_dead_peers_jobs_are_due_again_after_two_looks(db: Database, conn: Connection) -> None:
    seen: list[object] = []
    looks: list[str] = []
    job_id = make_job(conn, "running", worker_id="dead", max_attempts=3)
    with keeper(db, "alive", seen.append, [lambda: looks.append("dead")]) as alive:
        with keeper(db, "dead") as dead:
            dead.tick()
            alive.tick()
            alive.tick()
            assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)
        await_lifelines(conn, 1)
        alive.tick()
        assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)
        alive.tick()
    row = conn.execute("SELECT state, run_at <= now(), crashes, attempts, lease_id FROM _ayb_jobs").fetchone()
    assert row == ("queued", True, 1, 1, None)
    assert [event.job.id for event in seen if isinstance(event, JobRecovered)] == [job_id]
    assert conn.execute("SELECT id FROM _ayb_job_workers").fetchall() == [("alive",)]
    assert conn.execute("SELECT outcome FROM _ayb_job_executions").fetchall() == [("lost",)]
    assert looks == ["dead"], "those who find what it left undone were not told once"


def test_a_peer_that_lost_its_connection_and_took_it_again_keeps_its_jobs(db: Database, conn: Connection) -> None:
    make_job(conn, "running", worker_id="cut off")
    with keeper(db, "alive") as alive, keeper(db, "cut off") as cut_off:
        cut_off.tick()
        alive.tick()
        terminate_lifelines(conn, but="alive", db=db)
        cut_off.close()
        alive.tick()
        cut_off.tick()
        alive.tick()
        alive.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)


def test_a_living_peer_without_its_lifeline_says_so(db: Database, conn: Connection) -> None:
    make_job(conn, "running", worker_id="cut off")
    with keeper(db, "alive") as alive, keeper(db, "cut off") as cut_off:
        cut_off.tick()
        alive.tick()
        conn.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        with pytest.raises(Exception, match="terminating"):
            cut_off.tick()
        assert conn.execute("SELECT guarded FROM _ayb_job_workers WHERE id = 'cut off'").fetchone() == (False,)


def beat_once(conn: Connection) -> None:
    beat(conn, worker("cut off"))


def lease_another(conn: Connection) -> None:
    make_job(conn, "running", worker_id="cut off", lease_until=SQL("now() + interval '2 hours'"))


def extend(conn: Connection) -> None:
    conn.execute("UPDATE _ayb_jobs SET lease_until = lease_until + interval '1 second'")


@pytest.mark.parametrize("write", [beat_once, lease_another, extend])
def test_a_peer_that_beats_leases_or_extends_between_two_looks_is_alive(
    db: Database, conn: Connection, write: Callable[[Connection], None]
) -> None:
    make_job(conn, "running", worker_id="cut off")
    with keeper(db, "alive") as alive:
        with keeper(db, "cut off") as cut_off:
            cut_off.tick()
            alive.tick()
        await_lifelines(conn, 1)
        alive.tick()
        write(conn)
        alive.tick()
        assert conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("running",)]
        alive.tick()
        assert conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("queued",)]


def test_a_dead_peers_job_that_somebody_has_locked_is_taken_over_at_a_later_look(
    db: Database, conn: Connection
) -> None:
    job_id = make_job(conn, "running", worker_id="dead")
    with keeper(db, "alive") as alive:
        with keeper(db, "dead") as dead:
            dead.tick()
        await_lifelines(conn, 0)
        with closing(connect(db.url, name="somebody")) as somebody, somebody.transaction():
            somebody.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (job_id,))
            for _ in range(4):
                alive.tick()
            assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)
        alive.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("queued",)


def test_what_a_dead_peer_leased_last_of_all_is_taken_over_although_it_came_after_the_verdict(
    db: Database, conn: Connection
) -> None:
    with keeper(db, "alive") as alive:
        with keeper(db, "dead") as dead:
            dead.tick()
        await_lifelines(conn, 0)
        alive.tick()
        alive.tick()
        assert conn.execute("SELECT id FROM _ayb_job_workers").fetchall() == [("alive",)]
        make_job(conn, "running", worker_id="dead")
        assert alive.tick() == BUSY_TURN_S
        alive.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("queued",)


def test_a_peer_that_was_wrongly_held_to_be_dead_keeps_what_it_leases_then(db: Database, conn: Connection) -> None:
    with keeper(db, "alive") as alive, keeper(db, "cut off") as cut_off:
        cut_off.tick()
        terminate_lifelines(conn, but="alive", db=db)
        alive.tick()
        alive.tick()
        assert conn.execute("SELECT id FROM _ayb_job_workers").fetchall() == [("alive",)]
        with pytest.raises(Exception, match="terminating"):
            cut_off.tick()
        make_job(conn, "running", worker_id="cut off")
        for _ in range(3):
            alive.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)


def test_a_peer_that_lost_its_lifeline_while_idle_says_so_as_soon_as_it_leases(
    db: Database, conn: Connection, database_url: str
) -> None:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        ctx.stopping.wait(30)

    with (
        keeper(db, "alive") as alive,
        running(database_url, registry, notify=False, poll_interval_ms=100) as daemon,
    ):
        alive.tick()
        await_lifelines(conn, 2)
        eventually(lambda: daemon.daemon._parts.lifeline._held)
        assert daemon.daemon._parts.loops["heartbeat"].await_first_turn(30)  # else it beats after the judgement
        terminate_lifelines(conn, but="alive", db=db)
        alive.tick()
        alive.tick()
        assert conn.execute("SELECT id FROM _ayb_job_workers").fetchall() == [("alive",)]
        make_job(conn)
        eventually(lambda: conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",))
        eventually(lambda: conn.execute("SELECT count(*) FROM _ayb_job_workers").fetchone() == (2,), within_s=5)
        for _ in range(4):
            alive.tick()
        assert conn.execute("SELECT state, crashes FROM _ayb_jobs").fetchone() == ("running", 0)


def test_nobody_is_judged_right_after_an_outage(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "SETTLE_S", 60.0)
    make_job(conn, "running", worker_id="dead")
    with keeper(db, "dead") as dead:
        dead.tick()
    await_lifelines(conn, 0)
    with keeper(db, "alive") as alive:
        for _ in range(4):
            alive.tick()
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("running",)


def test_looks_are_rare_while_nothing_runs(db: Database, conn: Connection) -> None:
    with keeper(db, "alive") as alive:
        assert alive.tick() == IDLE_TURN_S
        make_job(conn, "running", lease_until=SQL("now() + interval '1 hour'"))
        assert alive.tick() == BUSY_TURN_S


def test_a_notification_makes_looks_frequent(db: Database) -> None:
    with keeper(db, "alive") as alive:
        alive.notified()
        assert alive.tick() == BUSY_TURN_S


def test_through_a_pooler_leases_alone_decide(db: Database, pgbouncer: PgBouncer, database_url: str) -> None:
    with closing(Database(pgbouncer.url(database_url), name="pooled")) as pooled, keeper(pooled, "pooled") as alone:
        assert alone.tick() == FOR_EVER_S
    with closing(connect(database_url)) as conn:
        assert conn.execute("SELECT count(*) FROM _ayb_job_workers WHERE guarded").fetchone() == (0,)


def await_lifelines(conn: Connection, count: int) -> None:
    """Wait until the server has noticed who let go: it does so in its own time after a connection was closed."""
    held = """
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    eventually(lambda: conn.execute(held).fetchone() == (count,))


def terminate_lifelines(conn: Connection, *, but: str, db: Database) -> None:
    """Cut every lifeline but one, as a network does."""
    conn.execute(
        """
        SELECT pg_terminate_backend(pid, 10000) FROM pg_locks
        WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
            AND (classid::bigint << 32 | objid::bigint) <> hashtextextended('_ayb_job_worker ' || %s, 0)
        """,
        (but,),
    )
