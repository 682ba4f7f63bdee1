"""While the database refuses what daemons write, all is not well, and who asks hears what it refuses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ayb_jobs import NewJob, enqueue
from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.checks.refused import refused
from ayb_jobs.checks.verdict import Mood, look_round
from ayb_jobs.checks.why import why_job
from ayb_jobs.config import Retention
from ayb_jobs.events import RowsSetAside, SettlementRefused
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.chores import pruner, stranded
from ayb_jobs.runtime.fleet import heartbeat
from ayb_jobs.runtime.jobs import careful_writing, resolver
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet.daemons import Troubles, beat
from ayb_jobs.storage.fleet.lifelines import look_at_fleet
from ayb_jobs.storage.fleet.refusals import told_by
from ayb_jobs.storage.rights import grant
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.running import running

DEEP = '{"a":' * 3000 + "{}" + "}" * 3000
OLD = sql.SQL("now() - interval '2 years'")
ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
PEER = DaemonRecord(id="peer", host="there", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


def found(conn: Connection) -> Finding | None:
    return look_round(conn, Retention()).refused


@contextmanager
def refusing(conn: Connection, table: LiteralString, event: LiteralString) -> Iterator[None]:
    """Have a trigger refuse an event on a table."""
    conn.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on Sundays'; END $$;"
        f"CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        conn.execute("DROP FUNCTION refuse CASCADE")


@pytest.fixture
def role(conn: Connection) -> Iterator[str]:
    name = f"daemon_{conn.info.dbname}"
    conn.execute(f"CREATE ROLE {name}".encode())
    yield name
    conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def registry() -> Registry:
    made = Registry()
    made.handler("test")(lambda _: None)
    return made


def awaited(conn: Connection, severity: Severity | None = None) -> Finding:
    """Wait until something is found, as grave as that."""

    def look() -> Finding | None:
        told = found(conn)
        return told if told is not None and severity in (None, told.severity) else None

    told = eventually(look)
    assert told is not None
    return told


def test_nothing_is_ready_while_every_ending_is_refused_and_all_is_well_soon_after(
    conn: Connection, database_url: str
) -> None:
    health = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    with running(database_url, registry()):
        with refusing(conn, "_ayb_job_executions", "INSERT"):
            job_ids = [make_job(conn, type="test") for _ in range(3)]
            grave = awaited(conn, Severity.FAILING)
            fact = "no job ends: the database refuses to store how 3 jobs ended"
            assert (grave.fact, grave.named) == (fact, f"{fact}: not on Sundays")
            said = health("health")
            assert (said.code, said.out) == (1, f"{fact}\n")
            assert json.loads(health("doctor", "--json").out)["findings"][0]["name"] == "rows.refused"
            reason = why_job(conn, job_ids[0]).reason
            assert "its handler has ended, and the database refuses to store how; daemon" in reason.words
            assert reason.words.endswith("not on Sundays")
        eventually(lambda: found(conn) is None and look_round(conn, Retention()).verdict.mood is Mood.WELL)
    assert conn.execute("SELECT DISTINCT state FROM _ayb_jobs").fetchall() == [("completed",)]


def test_what_is_refused_beside_what_ends_is_for_somebody_to_look_at(conn: Connection, database_url: str) -> None:
    with running(database_url, registry()):
        with refusing(conn, "_ayb_job_executions", "INSERT"):
            make_job(conn, type="test")
            one = awaited(conn)
            assert (one.severity, one.fact) == (Severity.WARNING, "the database refuses to store how 1 job ended")
        eventually(lambda: found(conn) is None)


@pytest.mark.parametrize(
    ("make", "table", "event", "fact"),
    [
        (lambda conn: make_job(conn, type="test"), "_ayb_jobs", "UPDATE", "to change 1 job"),
        (
            lambda conn: make_schedule(conn, job_type="test", cron_expr="* * * * *"),
            "_ayb_job_schedules", "UPDATE", "to change 1 schedule",
        ),
    ],
    ids=["a lease", "the plan of a new schedule"],
)  # fmt: skip
def test_a_row_that_a_trigger_keeps_is_told_until_it_is_let_go(
    conn: Connection, database_url: str, make: Any, table: LiteralString, event: LiteralString, fact: str
) -> None:
    with refusing(conn, table, event), running(database_url, registry(), scheduler_enabled=True):
        make(conn)
        assert awaited(conn).fact == f"the database refuses {fact}"
        assert look_round(conn, Retention()).verdict.mood is Mood.NEEDED


def test_a_row_that_several_daemons_tell_of_is_one(conn: Connection) -> None:
    beat(conn, ME, Troubles({"_ayb_job_schedules": {"1": "no"}, "endings": {"2": "full"}}, ()))
    beat(conn, PEER, Troubles({"_ayb_job_schedules": {"1": "no"}, "old rows": {"failed jobs": "kept"}}, ()))
    told = refused(told_by(look_at_fleet(conn)), ended=1)
    assert told is not None
    assert told.fact == (
        "the database refuses to store how 1 job ended, and to remove what is old of 1 table, and to change 1 schedule"
    )


@pytest.mark.parametrize(
    "odd",
    ["5", '"x"', DEEP, '{"a": {"x": 1e5000}}', "[1]", '{"endings": 5}', '{"_ayb_jobs": {"a": 1}}', '{"a": ["b"]}'],
)
def test_whatever_plain_sql_writes_into_a_row_is_borne(conn: Connection, odd: str) -> None:
    beat(conn, ME)
    job_id = make_job(conn, type="test")
    conn.execute("UPDATE _ayb_job_workers SET aside = %s::jsonb", (odd.replace('"a"', f'"{job_id}"'),))
    assert found(conn) is None
    assert why_job(conn, job_id).reason is not None


def test_an_address_that_takes_no_alert_is_told(conn: Connection) -> None:
    schedule_id = make_schedule(conn)
    conn.execute(
        "WITH alert AS (INSERT INTO _ayb_job_alerts (schedule_id, kind, message, about)"
        " VALUES (%s, 'overdue', 'late', 'a') RETURNING id)"
        " INSERT INTO _ayb_job_alert_deliveries (alert_id, target, attempts, last_error)"
        " SELECT id, 'there', 2, 'refused: hooks.example' FROM alert",
        (schedule_id,),
    )
    beat(conn, ME)
    (told,) = [each for each in look_round(conn, Retention()).verdict.findings if each.name == "alerts.undelivered"]
    assert told.fact == "1 alert of the last day was not taken by its address"
    assert told.named.endswith("refused: hooks.example")
    conn.execute("UPDATE _ayb_job_alert_deliveries SET delivered_at = now()")
    assert "alerts.undelivered" not in {each.name for each in look_round(conn, Retention()).verdict.findings}


def test_a_child_whose_row_stays_locked_is_told(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(careful_writing, "LONG_LOCKED_S", 0.0)
    monkeypatch.setattr(resolver, "SWEEP_S", 0.1)
    parent = make_job(conn, "queued", type="test", run_at=sql.SQL("now() + interval '1 hour'"))
    child = enqueue(conn, NewJob(type="test", depends_on=[parent])).id
    with connect(database_url) as other, running(database_url, registry()):
        other.execute("BEGIN")
        other.execute("SELECT FROM _ayb_jobs WHERE id = %s FOR UPDATE", (child,))
        conn.execute("UPDATE _ayb_jobs SET state = 'completed', completed_at = now() WHERE id = %s", (parent,))
        assert awaited(conn).named == "the database refuses to change 1 job: somebody has locked the row"
        other.execute("ROLLBACK")


def test_a_table_of_which_retention_can_remove_nothing_is_told_until_it_can(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner, "TURN_S", 0.2)
    make_job(conn, "completed", type="test", created_at=OLD, completed_at=OLD, updated_at=OLD)
    conn.execute("UPDATE _ayb_jobs_migrations SET applied_at = now() - interval '3 years'")
    with refusing(conn, "_ayb_jobs", "DELETE"), running(database_url, registry(), retention=Retention(completed_h=1)):
        assert awaited(conn).fact == "the database refuses to remove what is old of 1 table"
        conn.execute("DROP TRIGGER refuse ON _ayb_jobs")
        eventually(lambda: found(conn) is None)


def test_a_look_that_fails_in_every_turn_is_not_healthy(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.0)
    monkeypatch.setattr(stranded, "LOOK_S", 0.0)

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no look")

    with running(database_url, registry(), scheduler_enabled=True) as one:
        monkeypatch.setattr(heartbeat, "find_silent", fails)
        monkeypatch.setattr(stranded, "find_stranded", fails)
        names = {"heartbeat", "scheduler"}
        eventually(lambda: all(each.overdue_s > 3 for each in one.daemon.loops() if each.name in names), within_s=60)


@pytest.mark.parametrize(
    "lost", ["ALTER TABLE _ayb_job_executions RENAME COLUMN outcome TO away", "DROP TABLE _ayb_job_executions CASCADE"]
)
def test_a_loop_of_which_the_statement_itself_is_refused_fails(
    conn: Connection, database_url: str, lost: LiteralString
) -> None:
    job_id = make_job(conn, type="test", run_at=sql.SQL("now() + interval '1 hour'"))
    with running(database_url, registry()) as one:
        conn.execute(lost)
        conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE id = %s", (job_id,))
        eventually(lambda: any(each.failing and each.overdue_s > 2 for each in one.daemon.loops()), within_s=60)
        assert not one.recorder.of(RowsSetAside)
        assert not one.recorder.of(SettlementRefused)


def test_a_row_that_row_level_security_refuses_keeps_no_other(conn: Connection, database_url: str, role: str) -> None:
    grant(conn, "public", role, ["daemon"])
    conn.execute(
        "ALTER TABLE _ayb_jobs ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON _ayb_jobs USING (true)"
        " WITH CHECK (payload ->> 'kept' IS NULL OR state = 'queued')"
    )
    kept, free = make_job(conn, type="test", payload={"kept": "1"}), make_job(conn, type="test")
    with running(make_conninfo(database_url, options=f"-c role={role}"), registry()):
        eventually(
            lambda: conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (free,)).fetchone() == ("completed",)
        )
        assert awaited(conn).fact == "the database refuses to change 1 job"
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (kept,)).fetchone() == ("queued",)
