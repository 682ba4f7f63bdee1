"""A trigger of the application's that refuses some rows holds up no other, and loses nothing."""

from collections.abc import Mapping, Sequence

import pytest
from psycopg import sql

from ayb_jobs.config import Retention
from ayb_jobs.events import LeasesLost, RemovalRefused, RowsSetAside, SettlementRefused
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.completing import Completing
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import Running, running

# What a trigger may do with a row: raise any error, even one that tells of a server or a lock, or change it in silence.
ERRORS = [
    "P0001",
    "22012",
    "22001",
    "23502",
    "23503",
    "23505",
    "23514",
    "21000",
    "2F004",
    "0A000",
    "42501",
    "42P01",
    "54000",
    "55000",
    "57014",
    "XX000",
    "ZZ999",
    "40001",
    "40P01",
    "53100",
    "55P03",
    "25006",
    "08001",
    "57P01",
]
SILENT = ("null", "old", "state")
WAYS = [*ERRORS, *SILENT]
GOOD = 20

# A row is refused in the way that its payload names, in the step that the trigger is for.
TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        way text := OLD.payload ->> 'refuse';
    BEGIN
        IF way IS NULL THEN
            RETURN NEW;
        ELSIF way = 'null' THEN
            RETURN NULL;
        ELSIF way = 'old' THEN
            RETURN OLD;
        ELSIF way = 'state' THEN
            NEW.state := OLD.state;
            NEW.lease_id := OLD.lease_id;
            RETURN NEW;
        ELSIF way = 'state alone' THEN
            NEW.state := OLD.state;
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'refused' USING ERRCODE = way;
    END
    $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse();
"""
STEPS: Mapping[str, str] = {
    "lease": "OLD.state = 'queued' AND NEW.state = 'running'",
    "settle": "OLD.state = 'running' AND NEW.state = 'completed'",
    "extend": "OLD.state = 'running' AND NEW.state = 'running'",
    "release": "OLD.state = 'running' AND NEW.state = 'queued'",
}


def refuse(conn: Connection, step: str) -> None:
    conn.execute(sql.SQL(TRIGGER).format(sql.SQL(STEPS[step])))


def count(conn: Connection, state: str) -> int:
    row = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = %s", (state,)).fetchone()
    return row[0] if row else 0


def refused_and_good(conn: Connection, ways: Sequence[str]) -> Mapping[str, str]:
    """Make a job that is refused in each way, and good ones behind it; return the ids of the former by way."""
    refused = {way: make_job(conn, payload={"refuse": way}) for way in ways}
    for _ in range(GOOD):
        make_job(conn)
    return refused


def noop() -> Registry:
    registry = Registry()
    registry.handler("test")(lambda _: None)
    return registry


def waiting() -> Registry:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        while not ctx.stopping.wait(0.05):
            pass
        ctx.check()

    return registry


def set_aside(daemon: Running) -> set[str]:
    return {row_id for event in daemon.recorder.of(RowsSetAside) for row_id in event.row_ids}


@pytest.mark.parametrize("way", [None, "40001", *SILENT, "state alone"])
def test_a_job_that_cannot_be_leased_is_set_aside_and_leased_once_it_can_be(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, way: str | None
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.jobs.careful_leasing.CHECK_S", 0.2)
    monkeypatch.setattr("ayb_jobs.runtime.jobs.careful_leasing.LONGEST_RETRY_S", 1.0)
    refuse(conn, "lease")
    refused = refused_and_good(conn, ERRORS if way is None else [way])
    with running(database_url, noop(), poll_interval_ms=100) as daemon:
        eventually(lambda: count(conn, "completed") == GOOD)
        eventually(lambda: set_aside(daemon) == set(refused.values()))
        assert count(conn, "queued") == len(refused)
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")
        eventually(lambda: count(conn, "completed") == GOOD + len(refused))
    attempts = conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs").fetchall()
    assert attempts == [(1,)] or way in ("state", "state alone")  # that trigger keeps the new number of attempts


@pytest.mark.parametrize("way", [None, "40001", *SILENT, "state alone"])
def test_an_ending_that_cannot_be_written_is_set_aside_and_written_once_it_can_be(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, way: str | None
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.jobs.completer.LONGEST_RETRY_S", 1.0)
    refuse(conn, "settle")
    refused = refused_and_good(conn, ERRORS if way is None else [way])
    with running(database_url, noop(), poll_interval_ms=100) as daemon:
        eventually(lambda: count(conn, "completed") == GOOD)
        eventually(lambda: {event.job.id for event in daemon.recorder.of(SettlementRefused)} == set(refused.values()))
        assert count(conn, "running") == len(refused)
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")
        eventually(lambda: count(conn, "completed") == GOOD + len(refused))
        assert not daemon.recorder.of(LeasesLost)
    assert conn.execute("SELECT DISTINCT attempts FROM _ayb_jobs").fetchall() == [(1,)]
    assert conn.execute("SELECT outcome, count(*) FROM _ayb_job_executions GROUP BY 1").fetchall() == [
        ("completed", GOOD + len(refused))
    ]


def test_a_stop_tells_of_the_jobs_that_it_could_not_settle(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.daemon.daemon.FLUSH_S", 0.5)
    refuse(conn, "settle")
    refused_and_good(conn, ["P0001", "null"])
    with running(database_url, noop(), poll_interval_ms=100) as daemon:
        eventually(lambda: count(conn, "completed") == GOOD)
        assert daemon.daemon.stop() == 2
    assert count(conn, "running") == 2


def test_a_stop_tries_endings_again_that_were_refused(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.runtime.jobs.completer.FIRST_RETRY_S", 600.0)
    monkeypatch.setattr("ayb_jobs.runtime.jobs.completer.LONGEST_RETRY_S", 600.0)
    refuse(conn, "settle")
    refused_and_good(conn, ["P0001"])
    with running(database_url, noop(), poll_interval_ms=100) as daemon:
        eventually(lambda: count(conn, "completed") == GOOD)
        eventually(lambda: daemon.recorder.of(SettlementRefused))
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")
        assert daemon.daemon.stop() == 0
    assert count(conn, "completed") == GOOD + 1


@pytest.mark.parametrize("way", ["P0001", "40001", *SILENT[:2]])
def test_a_lease_that_cannot_be_extended_is_told_and_the_others_are_extended(
    database_url: str, conn: Connection, way: str
) -> None:
    refuse(conn, "extend")
    bad, good = make_job(conn, payload={"refuse": way}), make_job(conn)
    until = "SELECT id FROM _ayb_jobs WHERE lease_until > last_run_at + interval '3.5 seconds'"
    with running(database_url, waiting(), lease_duration_s=3) as daemon:
        eventually(lambda: str(conn.execute(until).fetchone() or "") and bad in set_aside(daemon))
        eventually(lambda: [str(row[0]) for row in conn.execute(until)] == [good])
        eventually(lambda: [event for event in daemon.recorder.of(LeasesLost) if event.job_ids == [bad]])
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")


@pytest.mark.parametrize("way", ["P0001", "40001", *SILENT, "state alone"])
def test_a_job_that_cannot_be_given_back_is_told_and_keeps_no_other(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("ayb_jobs.daemon.daemon.FLUSH_S", 0.5)
    refuse(conn, "release")
    bad, good = make_job(conn, payload={"refuse": way}), make_job(conn)
    with running(database_url, waiting()) as daemon:
        eventually(lambda: count(conn, "running") == 2)
        assert daemon.daemon.stop() == 1
        assert set_aside(daemon) == {bad}
    found = conn.execute("SELECT state, attempts FROM _ayb_jobs WHERE id = %s", (good,)).fetchone()
    assert found == ("queued", 0)
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (bad,)).fetchone() == ("running",)


@pytest.fixture
def referenced(conn: Connection) -> str:
    """A job that a row of the application's refers to."""
    job_id = make_job(conn)
    conn.execute("CREATE TABLE orders (job_id uuid REFERENCES _ayb_jobs (id))")
    conn.execute("INSERT INTO orders VALUES (%s)", (job_id,))
    return job_id


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_job_that_cannot_be_removed_completes_all_the_same(
    database_url: str, conn: Connection, referenced: str, *, in_transaction: bool
) -> None:
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        if in_transaction:
            with ctx.transaction():
                pass

    for _ in range(GOOD):
        make_job(conn)
    with running(database_url, registry, retention=Retention(completed_h=0)) as daemon:
        eventually(lambda: count(conn, "queued") + count(conn, "running") == 0)
        eventually(lambda: in_transaction or daemon.recorder.of(RemovalRefused))
    assert conn.execute("SELECT state, attempts FROM _ayb_jobs WHERE id = %s", (referenced,)).fetchone() == (
        "completed",
        1,
    )
    assert conn.execute("SELECT outcome, count(*) FROM _ayb_job_executions GROUP BY 1").fetchall() == [
        ("completed", GOOD + 1)
    ]


def test_a_job_whose_removal_a_trigger_suppresses_completes_all_the_same(database_url: str, conn: Connection) -> None:
    conn.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    conn.execute("CREATE TRIGGER keep BEFORE DELETE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()")
    job_id = make_job(conn)
    with running(database_url, noop(), retention=Retention(completed_h=0)) as daemon:
        eventually(lambda: count(conn, "completed") == 1)
        eventually(lambda: daemon.recorder.of(RemovalRefused))  # it is told a moment after it is written
        assert not daemon.recorder.of(LeasesLost)
    assert conn.execute("SELECT attempts FROM _ayb_jobs WHERE id = %s", (job_id,)).fetchone() == (1,)


@pytest.mark.parametrize("way", ["40001", "40P01", "53100", "53300", "55P03", "57P01", "08006", "P0001"])
def test_a_completion_does_not_depend_on_the_removal_whatever_a_trigger_on_it_raises(
    db: Database, conn: Connection, way: str
) -> None:
    conn.execute(
        sql.SQL(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = {}; END $$;"
            "CREATE TRIGGER refuse BEFORE DELETE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION refuse()"
        ).format(way)
    )
    completing = Completing(db, conn, remove_completed=True)
    for _ in range(2):
        completing.end_one()
    completing.completer.tick()
    assert count(conn, "completed") == 2
    assert completing.completer.pending == len(completing.in_flight) == 0
    (refused,) = completing.of(RemovalRefused)
    assert "refused" in str(refused.error.__cause__ or refused.error)
    assert not completing.of(SettlementRefused)


def test_jobs_that_a_trigger_moves_to_another_queue_as_they_are_leased_run(database_url: str, conn: Connection) -> None:
    conn.execute(
        """
        CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.queue := 'moved'; RETURN NEW; END $$;
        CREATE TRIGGER move BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
            WHEN (OLD.state = 'queued' AND NEW.state = 'running') EXECUTE FUNCTION move();
        """
    )
    registry = Registry()
    registry.handler("test")(lambda _: None)
    for _ in range(GOOD):
        make_job(conn)
    with running(database_url, registry):
        eventually(lambda: count(conn, "completed") == GOOD, within_s=20)
