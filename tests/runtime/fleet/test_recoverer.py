"""How often lost leases are looked for: seldom, and at once when one runs out."""

import pytest
from psycopg import errors
from psycopg.sql import SQL

from ayb_jobs.events import ExecutionsDropped, JobRecovered
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.fleet import heartbeat
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.fleet.recoverer import BATCH, LONGEST_TURN_S, SHORTEST_TURN_S, Recoverer
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import list_daemons
from tests.aside import set_aside
from tests.eventually import eventually
from tests.factories import make_job

ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


def recoverer(db: Database, *, lease_s: float = 30) -> Recoverer:
    return Recoverer(database=db, emit=lambda _: None, backoff=Backoff(), max_crashes=3, lease_s=lease_s)


def test_looks_are_rare_while_no_lease_is_about_to_run_out(db: Database, conn: Connection) -> None:
    assert recoverer(db).tick() == LONGEST_TURN_S
    make_job(conn, "running")
    assert recoverer(db).tick() == LONGEST_TURN_S


def test_the_next_look_comes_when_the_next_lease_runs_out(db: Database, conn: Connection) -> None:
    make_job(conn, "running", lease_until=SQL("now() + interval '3 seconds'"))
    make_job(conn, "running", lease_until=SQL("now() - interval '1 second'"))
    looking = recoverer(db)
    assert looking.tick() == 0  # it found one, and there may be more
    assert SHORTEST_TURN_S <= looking.tick() < 3.1


def test_looks_are_never_hasty(db: Database, conn: Connection) -> None:
    looking = recoverer(db)

    def look() -> float:
        """Look at a lease that is about to run out; 0 where it has run out by the time of the look."""
        make_job(conn, "running", lease_until=SQL("now() + interval '0.1 seconds'"))
        return looking.tick()

    assert eventually(look) == SHORTEST_TURN_S


def test_a_lease_given_after_a_look_is_never_lost_before_the_next(db: Database) -> None:
    assert recoverer(db, lease_s=2).tick() == 2


def test_leases_that_ran_out_together_are_found_in_turns_without_pause(db: Database, conn: Connection) -> None:
    with conn.transaction():  # in which `now()` stands still
        for _ in range(BATCH + 1):
            make_job(conn, "running", lease_until=SQL("now() - interval '1 second'"))
    looking = recoverer(db)
    assert [looking.tick(), looking.tick()] == [0, 0]
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'running'").fetchone() == (0,)


@pytest.mark.parametrize("kept", ["NULL", "old"])
def test_jobs_that_a_trigger_keeps_running_are_set_aside_and_told_and_looks_pause(
    db: Database, conn: Connection, kept: str
) -> None:
    bad = "SELECT 'bad', 'running', gen_random_uuid(), now() - interval '1 hour' FROM generate_series(1, %s)"
    conn.execute(f"INSERT INTO _ayb_jobs (type, state, lease_id, lease_until) {bad}", (BATCH + 1,))
    good = make_job(conn, "running", type="good", lease_until=SQL("now() - interval '1 second'"))
    conn.execute(f"""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {kept}; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (old.type = 'bad') EXECUTE FUNCTION keep();
    """)
    told: list[object] = []
    looking = Recoverer(database=db, emit=told.append, backoff=Backoff(), max_crashes=3, lease_s=30)
    assert [looking.tick(), looking.tick(), looking.tick()] == [0, 0, LONGEST_TURN_S]
    assert len(set(set_aside(told))) == BATCH + 1
    assert [event.job.id for event in told if isinstance(event, JobRecovered)] == [good]
    assert conn.execute("SELECT job_id FROM _ayb_job_executions").fetchall() == [(good,)]


def test_lost_attempts_whose_rows_a_trigger_drops_are_told(db: Database, conn: Connection) -> None:
    conn.execute("""
        CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_row BEFORE INSERT ON _ayb_job_executions FOR EACH ROW EXECUTE FUNCTION drop_row();
    """)
    job_id = make_job(conn, "running", lease_until=SQL("now() - interval '1 second'"))
    told: list[object] = []
    Recoverer(database=db, emit=told.append, backoff=Backoff(), max_crashes=3, lease_s=30).tick()
    assert [event.job.id for event in told if isinstance(event, JobRecovered)] == [job_id]
    assert [event for event in told if isinstance(event, ExecutionsDropped)] == [
        ExecutionsDropped(count=1, job_id=job_id)
    ]


def test_jobs_that_somebody_holds_locked_are_waited_for_with_pauses(db: Database, conn: Connection) -> None:
    expired = "SELECT 'held', 'running', gen_random_uuid(), now() - interval '1 hour' FROM generate_series(1, %s)"
    conn.execute(f"INSERT INTO _ayb_jobs (type, state, lease_id, lease_until) {expired}", (BATCH,))
    looking = recoverer(db)
    with conn.transaction():
        conn.execute("SELECT FROM _ayb_jobs FOR UPDATE")
        assert [looking.tick(), looking.tick()] == [0, LONGEST_TURN_S]
    assert looking.tick() == 0
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'running'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("part", "lease_until"),
    [("recoverer", "'2026-01-01'"), ("recoverer", "NULL"), ("lifeline", "now() + interval '1 hour'")],
)
def test_many_locked_jobs_whose_leases_ran_out_together_hide_no_other(
    db: Database, conn: Connection, part: str, lease_until: str
) -> None:
    job = f"'running', gen_random_uuid(), {lease_until}, 'dead'"
    columns = "type, state, lease_id, lease_until, worker_id"
    conn.execute(f"INSERT INTO _ayb_jobs ({columns}) SELECT 'held', {job} FROM generate_series(1, %s)", (2 * BATCH,))
    conn.execute(f"INSERT INTO _ayb_jobs ({columns}) SELECT 'free', {job}")
    looking = recoverer(db)
    with conn.transaction():
        conn.execute("SELECT FROM _ayb_jobs WHERE type = 'held' FOR UPDATE")
        if part == "lifeline":
            keeper(db)._take_over({"dead": "infinity"})
        else:
            assert [looking.tick() for _ in range(3)] == [0] * 3
        assert conn.execute("SELECT state FROM _ayb_jobs WHERE type = 'free'").fetchone() == ("queued",)


def keeper(db: Database) -> LifelineKeeper:
    return LifelineKeeper(
        database=db, url=db.url, daemon=ME, emit=lambda _: None, backoff=Backoff(), max_crashes=3, lease_s=30,
        wake=lambda: None,
    )  # fmt: skip


def test_a_look_for_unclaimable_jobs_that_fails_makes_no_daemon_look_dead(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(conn: Connection, **_: object) -> None:
        conn.execute("SELECT 1 / 0")

    monkeypatch.setattr(heartbeat, "count_unclaimable", fail)
    beating = Heartbeat(database=db, daemon=ME, emit=lambda _: None)
    for _ in range(2):  # each turn fails, behind its beat
        conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '1 hour'")
        with pytest.raises(errors.DivisionByZero):
            beating.tick()
        assert [seen.daemon.id for seen in list_daemons(conn)] == ["me"]
