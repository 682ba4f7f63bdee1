"""No row that plain SQL can write stops a loop: good rows beside it are handled, and it is told which are bad."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import NewJob, batch
from ayb_jobs.config import Retention
from ayb_jobs.events import Emit, RowsSetAside, RowsUnprunable
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.runtime.chores import scheduler
from ayb_jobs.runtime.chores.alerter import Alerter
from ayb_jobs.runtime.chores.clock_watch import ClockWatch
from ayb_jobs.runtime.chores.courier import Courier
from ayb_jobs.runtime.chores.pruner import Pruner
from ayb_jobs.runtime.chores.scheduler import Scheduler
from ayb_jobs.runtime.chores.tallier import Tallier
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.lifeline import LifelineKeeper
from ayb_jobs.runtime.fleet.limit_watch import LimitWatch
from ayb_jobs.runtime.fleet.pause_watch import PauseWatch
from ayb_jobs.runtime.fleet.recoverer import Recoverer
from ayb_jobs.runtime.jobs import batch_resolver
from ayb_jobs.runtime.jobs.batch_resolver import BatchResolver
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.paused import Paused
from ayb_jobs.runtime.jobs.resolver import Resolver
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat, list_daemons
from ayb_jobs.storage.fleet.limits import list_limits
from ayb_jobs.storage.queue.minutes import Ended, list_minutes
from ayb_jobs.storage.schedules.deliveries import Alert, target_id
from tests.aside import set_aside
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.running import running

HOUR = timedelta(hours=1)
ROWS = 300
TEXTS = ["''", "repeat('x', 100000)", "U&'\\FFFD\\202E'", "'%s %(a)s {}'", "E'\\n'"]
# Values at the edges of each type; what a column refuses is passed over.
EDGES = {
    "uuid": ["NULL", "gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"],
    "integer": ["NULL", "0", "-1", "2147483647", "-2147483648"],
    "smallint": ["NULL", "1", "4"],
    "bigint": ["NULL", "0", "-1", "1", "9223372036854775807", "-9223372036854775808"],
    "double precision": ["NULL", "'infinity'", "'NaN'", "1e-300", "1e300"],
    "boolean": ["NULL", "true", "false"],
    "timestamp with time zone": [
        "NULL", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'", "now()", "now() - interval '1 hour'",
        "now() + interval '1 hour'",
    ],
    "jsonb": ["NULL", "'null'", "'[]'", "'{}'", "'1e131071'", """'{"records_processed": 1e100000}'""", "'\"text\"'"],
    "ARRAY": ["NULL", "'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "array_fill('x'::text, ARRAY[10000])"],
    "bytea": ["NULL", "''", "'\\x00ff'", "uuid_send(gen_random_uuid())"],
    "text": ["NULL", *TEXTS],
    "interval": ["NULL", "'0'", "'-1 s'", "'1 us'", "'36500 days'", "'100000000 years'"],
    "character varying": ["NULL", "''", "'a'", "U&'\\FFFD\\202E'", "repeat('x', 100)", "'queued'", "'running'", "'failed'"],
}  # fmt: skip
COLUMNS = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_name = %s AND is_generated = 'NEVER' AND is_identity = 'NO' ORDER BY ordinal_position
"""


# In one call: a statement and a savepoint for each row cost more than all that the loops do with them.
TAKE = """
    CREATE FUNCTION pg_temp.take(statements text[]) RETURNS int LANGUAGE plpgsql AS $$
    DECLARE
        statement text;
        taken int := 0;
    BEGIN
        SET CONSTRAINTS ALL IMMEDIATE;
        FOREACH statement IN ARRAY statements LOOP
            BEGIN
                EXECUTE statement;
                taken := taken + 1;
            EXCEPTION WHEN OTHERS THEN  -- the columns do not allow it
            END;
        END LOOP;
        RETURN taken;
    END $$
"""


def write_hostile_rows(conn: Connection, table: str, always: dict[str, str] | None = None, seed: int = 0) -> int:
    """Write rows with up to four columns at their edges, by plain SQL; return how many the table took."""
    chance = random.Random(seed)
    columns: dict[str, str] = dict(conn.execute(COLUMNS, (table,)).fetchall())
    statements: list[str] = []
    for _ in range(ROWS):
        chosen = chance.sample(sorted(columns), k=min(len(columns), chance.randint(1, 4)))
        values = (always or {}) | {name: chance.choice(EDGES[columns[name]]) for name in chosen}
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            names,
            sql.SQL(", ".join(values.values())),
        )
        statements.append(statement.as_string(conn))
    with suppress(psycopg.errors.DuplicateFunction):
        conn.execute(TAKE)
    taken: int = conn.execute("SELECT pg_temp.take(%s)", (statements,)).fetchall()[0][0]
    assert taken > ROWS / 30, f"{table} took only {taken} hostile rows"
    return taken


@dataclass
class Refused:
    """Bad rows: how they are made, by their ids; which change of which table is refused; what tells them."""

    make: Callable[[Connection], list[str]]
    table: str
    when: str
    told: Callable[[Sequence[object]], list[str]] = set_aside


@dataclass
class Case:
    """A loop: the tables that it reads, what makes its turns, and what good rows beside the bad must have become.

    `refused` is None if it writes no row but the daemon's own.
    """

    hostile: Sequence[tuple[str, dict[str, str]]]
    tick: Callable[[Database, Emit], Callable[[], float]]
    prepare: Callable[[Connection], object]
    progressed: Callable[[Connection], bool]
    refused: Refused | None = None
    turns: int = 12


ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
SCHEDULE = {"name": "gen_random_uuid()::text", "job_type": "'noop'", "cron_expr": "'* * * * *'"}
A_JOB = "(SELECT id FROM _ayb_jobs ORDER BY random() LIMIT 1)"
A_SCHEDULE = "(SELECT id FROM _ayb_job_schedules LIMIT 1)"
RUNNING = {"type": "'noop'", "state": "'running'", "lease_id": "gen_random_uuid()"}


def recovering(db: Database, emit: Emit) -> Callable[[], float]:
    return Recoverer(database=db, emit=emit, backoff=Backoff(), max_crashes=3, lease_s=30).tick


def beating(db: Database, emit: Emit) -> Callable[[], float]:
    return Heartbeat(database=db, daemon=ME, emit=emit).tick


def scheduling(db: Database, emit: Emit) -> Callable[[], float]:
    return Scheduler(db, emit, tick_s=15).tick


def alerting(db: Database, emit: Emit) -> Callable[[], float]:
    return Alerter(db, emit).tick


def delivering(db: Database, emit: Emit) -> Callable[[], float]:
    return Courier(db, Deaf(), emit).tick


def watching_the_clock(db: Database, emit: Emit) -> Callable[[], float]:
    watch = ClockWatch(db, emit)
    watch.hear(time.time())
    return lambda: float(watch.look())


def tallying(db: Database, emit: Emit) -> Callable[[], float]:
    tallier = Tallier(db, emit)
    for name in ("good", "bad"):
        tallier._add(name, Ended(completed=1))
    return tallier.tick


def watching_limits(db: Database, emit: Emit) -> Callable[[], float]:
    return LimitWatch(
        database=db,
        worker_id=ME.id,
        limits=Limits(),
        paused=Paused(),
        in_flight=InFlight(),
        on_change=lambda: None,
        emit=emit,
    ).tick


def watching_pauses(db: Database, emit: Emit) -> Callable[[], float]:
    return PauseWatch(database=db, worker_id=ME.id, paused=Paused(), in_flight=InFlight(), on_change=lambda: None).tick


def resolving(db: Database, emit: Emit) -> Callable[[], float]:
    return Resolver(database=db, emit=emit, wake=lambda: None).tick


def make_child(conn: Connection, type_: str) -> list[str]:
    """Make a job that waits for one that has completed."""
    parent = make_job(conn, "completed", type="parent")
    child = make_job(conn, type=type_, run_at=sql.SQL("'infinity'"), blocked_run_at=sql.SQL("now()"))
    conn.execute(
        "INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule) VALUES (%s, %s, 'cancel')", (child, parent)
    )
    return [child]


def ending_batches(db: Database, emit: Emit) -> Callable[[], float]:
    resolver = BatchResolver(database=db, emit=emit, wake=lambda: None)

    def tick() -> float:
        resolver.told()
        return resolver.tick()

    return tick


def make_batch(conn: Connection, called: str) -> list[str]:
    """Make a batch whose members have ended, and that calls a type."""
    with batch(conn, on_done=NewJob(type=called)) as one:
        return [one.id]


class Deaf:
    """An address that takes every alert."""

    key = host = "deaf"

    def tell(self, alert: Alert) -> str | None:
        """Take an alert."""
        return None if alert.id else "no"


def pruning(db: Database, emit: Emit) -> Callable[[], float]:
    retention = Retention(completed_h=24, canceled_h=24, failed_h=24, executions_h=24)
    return Pruner(database=db, retention=retention, emit=emit, stopping=threading.Event()).tick


def keeping_the_lifeline(db: Database, emit: Emit) -> Callable[[], float]:
    keeper = LifelineKeeper(
        database=db,
        url=db.url,
        daemon=ME,
        emit=emit,
        backoff=Backoff(),
        max_crashes=3,
        lease_s=30,
        wake=lambda: None,
    )

    def tick() -> float:
        keeper.tick()
        keeper._judging_from = 0.0  # no outage came before
        return 0.0

    closing_later.append(keeper.close)
    return tick


closing_later: list[Callable[[], None]] = []


def make_jobs_of_the_dead(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, guarded)"
        " VALUES ('dead', '', 1, '', 1, '{}', '{}', true)"
    )
    for _ in range(5):
        make_job(conn, "running", type="good", worker_id="dead")


def make_silent_daemon(conn: Connection) -> list[str]:
    conn.execute("""
        INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)
        VALUES ('bad', '', 1, '', 1, '{}', '{}', now() - interval '2 days')
    """)
    return ["bad"]


def make_alert(conn: Connection, about: str) -> list[str]:
    make_schedule(conn, enabled=False, next_run_at=None)
    statement = f"""
        INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message) VALUES ('failed', {A_SCHEDULE}, %s, '')
        RETURNING id::text
    """
    return [row[0] for row in conn.execute(statement, (about,))]


def make_late_schedule(conn: Connection, name: str) -> list[str]:
    return [
        make_schedule(
            conn,
            name=name,
            planned=PLANNED,
            last_fire_at=sql.SQL("now()"),
            next_run_at=sql.SQL("now() + interval '3 h'"),
        )
    ]


def make_old_job(conn: Connection, type_: str) -> list[str]:
    make_job(conn, "completed", type=type_, created_at="2020-01-01", completed_at="2020-01-01")
    return ["1 of completed jobs"]


def unprunable(told: Sequence[object]) -> list[str]:
    return [f"{event.rows} of {event.table}" for event in told if isinstance(event, RowsUnprunable)]


EXPIRED = sql.SQL("now() - interval '1 second'")
PLANNED = "* * * * * UTC once"


def make_lost_jobs(conn: Connection) -> None:
    for _ in range(5):
        make_job(conn, "running", type="good", lease_until=sql.SQL("now() - interval '1 second'"))


def states_of_good(conn: Connection) -> set[str]:
    return {row[0] for row in conn.execute("SELECT state FROM _ayb_jobs WHERE type = 'good'")}


A_BATCH = "(SELECT id FROM _ayb_job_batches ORDER BY random() LIMIT 1)"
LOOPS: dict[str, Case] = {
    "recoverer": Case(
        hostile=[
            ("_ayb_jobs", RUNNING),
            ("_ayb_jobs", RUNNING | {"lease_until": "now() - interval '1 minute'"}),
            ("_ayb_job_executions", {"id": "nextval('_ayb_job_execution_ids') + 3", "job_type": "'a'",
                "job_id": "gen_random_uuid()", "attempt": "1", "outcome": "'lost'", "started_at": "now()",
                "ended_at": "now()"}),
        ],
        tick=recovering,
        prepare=make_lost_jobs,
        progressed=lambda conn: states_of_good(conn) == {"queued"},
        refused=Refused(
            make=lambda conn: [make_job(conn, "running", type="bad", lease_until=EXPIRED)],
            table="_ayb_jobs", when="new.type = 'bad'",
        ),
    ),
    "scheduler": Case(
        hostile=[
            ("_ayb_job_schedules", SCHEDULE),
            ("_ayb_job_schedules", SCHEDULE | {"planned": "'* * * * * UTC once'"}),
            ("_ayb_job_schedules", SCHEDULE | {"cron_expr": "left(gen_random_uuid()::text, 9)"}),
        ],
        tick=scheduling,
        prepare=lambda conn: make_schedule(conn, name="good", job_type="good"),
        progressed=lambda conn: states_of_good(conn) == {"queued"},
        refused=Refused(
            make=lambda conn: [make_schedule(conn, job_type="bad", planned=PLANNED)],
            table="_ayb_jobs", when="new.type = 'bad'",
        ),
    ),
    "alerter": Case(
        hostile=[
            ("_ayb_job_schedules", SCHEDULE | {"expect_success_within_s": "1e300", "next_run_at": "now()"}),
            ("_ayb_jobs", {"type": "'noop'", "state": "'failed'", "schedule_id": A_SCHEDULE}),
            ("_ayb_job_executions", {"id": "nextval('_ayb_job_execution_ids')", "job_type": "'a'",
                "schedule_id": A_SCHEDULE, "job_id": "gen_random_uuid()", "attempt": "1", "outcome": "'completed'",
                "started_at": "now()", "ended_at": "now()"}),
            ("_ayb_job_alerts", {"kind": "'failed'", "schedule_id": A_SCHEDULE, "about": "gen_random_uuid()::text",
                "message": "''"}),
        ],
        tick=alerting,
        prepare=lambda conn: make_schedule(conn, name="good", last_error="broken", next_run_at=None),
        progressed=lambda conn: (
            conn.execute("SELECT overdue_since FROM _ayb_job_schedules WHERE name = 'good'").fetchall()[0][0] is not None
        ),
        refused=Refused(
            make=lambda conn: [make_schedule(conn, name="bad", last_error="broken", next_run_at=None)],
            table="_ayb_job_schedules", when="old.name = 'bad'",
        ),
    ),
    "courier": Case(
        hostile=[
            ("_ayb_job_alerts", {"kind": "'failed'", "schedule_id": A_SCHEDULE, "about": "gen_random_uuid()::text",
                "message": "''"}),
            ("_ayb_job_alert_deliveries", {"target": f"'{target_id('deaf')}'",
                "alert_id": "(SELECT id FROM _ayb_job_alerts ORDER BY random() LIMIT 1)"}),
        ],
        tick=delivering,
        prepare=lambda conn: make_alert(conn, "good"),
        progressed=lambda conn: conn.execute("""
            SELECT count(*) FROM _ayb_job_alert_deliveries JOIN _ayb_job_alerts ON alert_id = id
            WHERE about = 'good' AND delivered_at IS NOT NULL
        """).fetchone() == (1,),
        refused=Refused(
            make=lambda conn: make_alert(conn, "bad"),
            table="_ayb_job_alert_deliveries",
            when="new.alert_id = (SELECT id FROM _ayb_job_alerts WHERE about = 'bad')",
        ),
    ),
    "clock watch": Case(
        hostile=[
            ("_ayb_job_schedules", SCHEDULE | {"planned": "'* * * * * UTC once'", "last_fire_at": "now()",
                "next_run_at": "now() + interval '3 hours'"}),
        ],
        tick=watching_the_clock,
        prepare=lambda conn: make_late_schedule(conn, "good"),
        progressed=lambda conn: conn.execute("""
            SELECT count(*) FROM _ayb_job_schedules WHERE name = 'good' AND next_run_at < now() + interval '1 hour'
        """).fetchone() == (1,),
        refused=Refused(
            make=lambda conn: make_late_schedule(conn, "bad"), table="_ayb_job_schedules", when="old.name = 'bad'",
        ),
    ),
    "pruner": Case(
        hostile=[
            ("_ayb_jobs", {"type": "'noop'", "state": "'completed'"}),
            ("_ayb_jobs", {"type": "'noop'", "state": "'failed'", "created_at": "'-infinity'"}),
            ("_ayb_job_executions", {"id": "-nextval('_ayb_job_execution_ids')", "job_type": "'a'",
                "job_id": "gen_random_uuid()", "attempt": "1", "outcome": "'lost'", "started_at": "now()",
                "ended_at": "now()"}),
            ("_ayb_job_fires", {"schedule_id": A_SCHEDULE, "outcome": "'coalesced'",
                "fire_at": "now() - random() * interval '9 years'"}),
            ("_ayb_job_alerts", {"kind": "'failed'", "schedule_id": A_SCHEDULE, "about": "gen_random_uuid()::text",
                "message": "''"}),
        ],
        tick=pruning,
        prepare=lambda conn: make_old_job(conn, "good"),
        progressed=lambda conn: states_of_good(conn) == set(),
        refused=Refused(
            make=lambda conn: make_old_job(conn, "bad"), table="_ayb_jobs", when="old.type = 'bad'", told=unprunable,
        ),
    ),
    "lifeline": Case(
        hostile=[
            ("_ayb_jobs", RUNNING),
            ("_ayb_job_workers", {"id": "gen_random_uuid()", "host": "''", "pid": "1", "version": "''", "concurrency": "1",
                "queues": "'{}'", "types": "'{}'", "guarded": "true"}),
        ],
        tick=keeping_the_lifeline,
        prepare=make_jobs_of_the_dead,
        progressed=lambda conn: states_of_good(conn) == {"queued"},
        refused=Refused(
            make=lambda conn: [make_job(conn, "running", type="bad", worker_id="dead")],
            table="_ayb_jobs", when="new.type = 'bad'",
        ),
    ),
    "heartbeat": Case(
        hostile=[
            ("_ayb_jobs", {"type": "'noop'"}),
            ("_ayb_job_workers", {"id": "gen_random_uuid()", "host": "''", "pid": "1", "version": "''",
                "concurrency": "1", "queues": "'{}'", "types": "'{}'"}),
        ],
        tick=beating,
        prepare=lambda _: None,
        progressed=lambda conn: "me" in {seen.daemon.id for seen in list_daemons(conn)},
        refused=Refused(make=make_silent_daemon, table="_ayb_job_workers", when="old.id = 'bad'"),
    ),
    "tallier": Case(
        hostile=[
            ("_ayb_job_minutes", {"at": "date_trunc('minute', now())", "job_type": "gen_random_uuid()::text"}),
            ("_ayb_job_levels", {"at": "now() - random() * interval '9 years'"}),
            ("_ayb_jobs", {"type": "'noop'"}),
        ],
        tick=tallying,
        prepare=lambda _: None,
        progressed=lambda conn: (
            [(each.completed, each.failed) for each in list_minutes(conn, span=HOUR, step=HOUR, job_type="good")] == [(1, 0)]
        ),
        refused=Refused(make=lambda _: ["bad"], table="_ayb_job_minutes", when="new.job_type = 'bad'"),
    ),
    "resolver": Case(
        hostile=[
            ("_ayb_jobs", {"type": "'noop'", "blocked_run_at": "now()"}),
            ("_ayb_job_dependencies", {"child_id": A_JOB, "parent_id": A_JOB, "rule": "'run'"}),
            ("_ayb_job_dependencies", {"child_id": A_JOB, "parent_id": "gen_random_uuid()", "rule": "'cancel'"}),
        ],
        tick=resolving,
        prepare=lambda conn: make_child(conn, "good"),
        progressed=lambda conn: conn.execute("""
            SELECT count(*) FROM _ayb_jobs WHERE type = 'good' AND blocked_run_at IS NULL AND run_at <= now()
        """).fetchone() == (1,),
        refused=Refused(
            make=lambda conn: make_child(conn, "bad"), table="_ayb_jobs", when="old.type = 'bad'",
        ),
    ),
    "batch resolver": Case(
        hostile=[
            ("_ayb_job_batches", {"id": "gen_random_uuid()", "sealed_at": "'infinity'", "created_at": "'-infinity'"}),
            ("_ayb_job_batches", {"id": "gen_random_uuid()", "sealed_at": "now()", "completed": "-1"}),
            ("_ayb_job_batch_callbacks", {"batch_id": A_BATCH, "event": "'done'", "job_id": "gen_random_uuid()",
                "type": "'a'"}),
            ("_ayb_jobs", {"type": "'noop'", "batch_id": "gen_random_uuid()"}),
        ],
        tick=ending_batches,
        prepare=lambda conn: make_batch(conn, "good"),
        progressed=lambda conn: conn.execute("SELECT count(*) FROM _ayb_jobs WHERE type = 'good'").fetchone() == (1,),
        refused=Refused(
            make=lambda conn: make_batch(conn, "bad"), table="_ayb_jobs", when="new.type = 'bad'",
        ),
    ),
    "limits": Case(
        hostile=[
            ("_ayb_job_limits", {"name": "gen_random_uuid()::text", "types": "ARRAY[gen_random_uuid()]", "set_by": "''",
                "rate": "'1/s'", "every": "'1 s'"}),
            ("_ayb_job_limit_keys", {"limit_name": "gen_random_uuid()::text", "limit_key": "''", "tat": "now()"}),
            ("_ayb_jobs", {"type": "'noop'", "limited_by": "'gone'", "limited_key": "''"}),
        ],
        tick=watching_limits,
        prepare=lambda conn: beat(conn, ME),
        progressed=lambda conn: beat(conn, ME).limits_confirmed and len(list_limits(conn)) > 0,
    ),
    "pauses": Case(
        hostile=[
            ("_ayb_job_pauses", {"kind": "'queue'", "name": "gen_random_uuid()::text", "paused_by": "''"}),
            ("_ayb_job_pauses", {"kind": "'type'", "name": "gen_random_uuid()::text", "paused_by": "''"}),
        ],
        tick=watching_pauses,
        prepare=lambda conn: beat(conn, ME),
        progressed=lambda conn: beat(conn, ME).confirmed,
    ),
}  # fmt: skip
# These read no rows but of the jobs that the daemon leased (tests/runtime/jobs/test_triggers.py), or none at all; fail
# pings are a courier's, and what the pinger reads is an address, whatever it is (tests/runtime/chores/test_alerter.py).
OTHERS = {
    "lease keeper", "watchdog", "completer", "producer", "notifier", "event loop watch", "pinger", "fail pings",
}  # fmt: skip


@pytest.fixture(params=LOOPS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each loop in turn."""
    return LOOPS[request.param]


def test_every_loop_of_a_daemon_stands_in_the_table(database_url: str) -> None:
    with running(database_url, Registry(), scheduler_enabled=True) as daemon:
        assert {loop.name for loop in daemon.daemon.loops()} <= LOOPS.keys() | OTHERS


def test_hostile_rows_stop_no_loop(case: Case, db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "TURN_S", 1.0)
    make_schedule(conn, name="hostile", next_run_at=None, enabled=False)
    for seed, (table, always) in enumerate(case.hostile):
        write_hostile_rows(conn, table, always, seed)
    case.prepare(conn)
    tick = case.tick(db, lambda _: None)
    for _ in range(case.turns):
        tick()
        if case.progressed(conn):
            break
    while closing_later:
        closing_later.pop()()
    assert case.progressed(conn)


@pytest.mark.parametrize("loop", [name for name, each in LOOPS.items() if each.refused is not None])
def test_each_row_that_the_database_refuses_is_told_and_the_others_are_handled(
    loop: str, db: Database, conn: Connection
) -> None:
    case = LOOPS[loop]
    refused = case.refused
    assert refused is not None
    case.prepare(conn)
    bad = refused.make(conn)
    refuse_bad_rows(conn, refused.table, refused.when)
    told: list[object] = []
    tick = case.tick(db, told.append)
    for _ in range(case.turns):
        tick()
        if case.progressed(conn) and refused.told(told):
            break
    while closing_later:
        closing_later.pop()()
    assert case.progressed(conn)
    assert refused.told(told) == bad


def refuse_bad_rows(conn: Connection, table: str, when: str, sqlstate: str = "P0001") -> None:
    """Have a trigger of the application's raise for rows that it calls bad."""
    conn.execute(
        sql.SQL("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {when} THEN RAISE EXCEPTION 'the application refuses it' USING ERRCODE = {sqlstate}; END IF;
                RETURN coalesce(new, old);
            END $$
        """).format(when=sql.SQL(when), sqlstate=sql.Literal(sqlstate))
    )
    conn.execute(
        sql.SQL(
            "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION refuse()"
        ).format(sql.Identifier(table))
    )


def test_a_job_that_cannot_be_recovered_is_set_aside_and_told(db: Database, conn: Connection) -> None:
    bad = [make_job(conn, "running", type="bad", lease_until=sql.SQL("now() - interval '1 hour'")) for _ in range(100)]
    make_lost_jobs(conn)
    refuse_bad_rows(conn, "_ayb_jobs", "new.type = 'bad'")
    told: list[object] = []
    loop = Loop("recoverer", recovering(db, told.append), told.append)
    loop.start()
    eventually(lambda: states_of_good(conn) == {"queued"})
    eventually(lambda: len(set_aside(told)) == len(bad))
    loop.stop()
    assert loop.join(5)
    assert sorted(set_aside(told)) == sorted(bad)
    assert all("the application refuses it" in event.error for event in told if isinstance(event, RowsSetAside))


@pytest.mark.parametrize("number", ["NULL", "(SELECT min(id) FROM _ayb_job_executions)", "42"])
def test_an_attempt_whose_number_cannot_be_its_own_gets_a_new_one(db: Database, conn: Connection, number: str) -> None:
    make_lost_jobs(conn)
    recovering(db, lambda _: None)()
    for _ in range(3):
        make_job(conn, "running", type="good", execution_id=sql.SQL(number), lease_until=sql.SQL("'-infinity'"))
    recovering(db, lambda _: None)()
    assert states_of_good(conn) == {"queued"}
    assert conn.execute("SELECT count(*) FROM _ayb_job_executions").fetchone() == (8,)


def test_numbers_catch_up_with_the_log_while_daemons_run(db: Database, conn: Connection) -> None:
    make_lost_jobs(conn)
    recovering(db, lambda _: None)()
    conn.execute("SELECT setval('_ayb_job_execution_ids', 1, false)")
    make_job(conn, "running", type="good", execution_id=None, lease_until=sql.SQL("now() - interval '1 second'"))
    recovering(db, lambda _: None)()
    assert states_of_good(conn) == {"queued"}
    numbers = [row[0] for row in conn.execute("SELECT id FROM _ayb_job_executions ORDER BY id")]
    assert len(numbers) == 6
    assert conn.execute("SELECT nextval('_ayb_job_execution_ids')").fetchall()[0][0] > numbers[-1]


def test_a_schedule_that_cannot_be_fired_is_set_aside_and_told(db: Database, conn: Connection) -> None:
    bad = [make_schedule(conn, job_type="bad", planned="* * * * * UTC once") for _ in range(20)]
    make_schedule(conn, job_type="good")
    refuse_bad_rows(conn, "_ayb_jobs", "new.type = 'bad'")
    told: list[object] = []
    tick = scheduling(db, told.append)
    assert [tick(), tick()] == [15.0, 15.0] or states_of_good(conn) == {"queued"}
    assert states_of_good(conn) == {"queued"}
    assert sorted(set_aside(told)) == sorted(bad)


def test_a_schedule_whose_row_a_trigger_keeps_as_it_is_is_set_aside_and_told(db: Database, conn: Connection) -> None:
    bad = make_schedule(conn, planned="* * * * * UTC once")
    conn.execute("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON _ayb_job_schedules FOR EACH ROW EXECUTE FUNCTION keep();
    """)
    told: list[object] = []
    tick = scheduling(db, told.append)
    tick()
    assert set_aside(told) == [bad]
    assert tick() > 1


def test_a_schedule_whose_job_a_trigger_drops_is_set_aside_and_told_and_nothing_says_that_it_fired(
    db: Database, conn: Connection
) -> None:
    bad = make_schedule(conn, job_type="bad", planned="* * * * * UTC once")
    make_schedule(conn, job_type="good")
    conn.execute("""
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER lose BEFORE INSERT ON _ayb_jobs FOR EACH ROW WHEN (new.type = 'bad') EXECUTE FUNCTION lose();
    """)
    told: list[object] = []
    tick = scheduling(db, told.append)
    tick()
    tick()
    assert set_aside(told) == [bad]
    assert states_of_good(conn) == {"queued"}
    fired = "SELECT type FROM _ayb_job_fires JOIN _ayb_jobs ON id = job_id"
    assert conn.execute(fired).fetchall() == [("good",)]
    assert conn.execute("SELECT count(*) FROM _ayb_job_fires").fetchone() == (1,)
    due = "SELECT next_run_at <= now() FROM _ayb_job_schedules WHERE id = %s"
    assert conn.execute(due, (bad,)).fetchone() == (True,), "it stays due, and is overdue before long"


# Errors that pass by themselves mostly: a conflict, a lock, a full disk, a standby, a lost server.
PASSING = ["40001", "40P01", "53100", "53300", "55P03", "25006", "08006", "57P03"]


@pytest.mark.parametrize("sqlstate", PASSING)
@pytest.mark.parametrize("part", ["recoverer", "scheduler"])
def test_a_row_that_is_refused_with_a_passing_error_each_time_is_set_aside(
    db: Database, conn: Connection, part: str, sqlstate: str
) -> None:
    if part == "recoverer":
        bad = make_job(conn, "running", type="bad", lease_until=sql.SQL("now() - interval '1 hour'"))
        make_lost_jobs(conn)
    else:
        bad = make_schedule(conn, job_type="bad", planned="* * * * * UTC once")
        make_schedule(conn, job_type="good")
    refuse_bad_rows(conn, "_ayb_jobs", "new.type = 'bad'", sqlstate)
    told: list[object] = []
    tick = LOOPS[part].tick(db, told.append)
    failures = 0
    while states_of_good(conn) != {"queued"}:
        try:
            tick()
        except psycopg.Error:
            failures += 1
        assert failures <= 5, "the statement is repeated a few times, and then the row is suspected"
    aside = [event for event in told if isinstance(event, RowsSetAside)]
    assert set_aside(aside) == [bad]
    assert aside[0].retry_s <= 1, "what may pass is tried again soon"


def test_a_child_that_is_refused_with_a_passing_error_is_set_aside_though_others_are_freed_between(
    db: Database, conn: Connection
) -> None:
    (bad,) = make_child(conn, "bad")
    oldest = "00000000-0000-7000-8000-000000000001"
    conn.execute("UPDATE _ayb_jobs SET id = %s WHERE id = %s", (oldest, bad))
    conn.execute("UPDATE _ayb_job_dependencies SET child_id = %s", (oldest,))
    refuse_bad_rows(conn, "_ayb_jobs", "old.type = 'bad'", "40001")
    told: list[object] = []
    resolver = Resolver(database=db, emit=told.append, wake=lambda: None)
    for _ in range(8):
        make_child(conn, "good")
        resolver.told()
        with suppress(psycopg.errors.SerializationFailure):
            resolver.tick()
    assert set_aside(told) == [oldest]


def test_a_batch_that_is_refused_with_a_passing_error_is_set_aside_though_others_end_between(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_resolver, "SWEEP_S", 0.0)
    monkeypatch.setattr(batch_resolver, "APART_S", 0.0)
    (bad,) = make_batch(conn, "bad")
    refuse_bad_rows(conn, "_ayb_jobs", "new.type = 'bad'", "40001")
    told: list[object] = []
    resolver = BatchResolver(database=db, emit=told.append, wake=lambda: None)
    for _ in range(8):
        with suppress(psycopg.errors.SerializationFailure):
            resolver.tick()
        (good,) = make_batch(conn, "good")
        resolver._note(resolver._touched, {good: None})
    assert set_aside(told) == [bad]


@pytest.mark.parametrize("sqlstate", PASSING)
def test_a_row_that_cannot_be_pruned_with_a_passing_error_is_passed_over(
    db: Database, conn: Connection, sqlstate: str
) -> None:
    for type_ in ("bad", "good"):
        make_job(conn, "completed", type=type_, created_at="2020-01-01", completed_at="2020-01-01")
    refuse_bad_rows(conn, "_ayb_jobs", "old.type = 'bad'", sqlstate)
    tick = pruning(db, lambda _: None)
    for _ in range(5):
        with suppress(psycopg.Error):
            tick()
    tick()
    assert states_of_good(conn) == set()


def test_the_heart_beats_though_a_silent_daemon_cannot_be_forgotten(db: Database, conn: Connection) -> None:
    conn.execute("""
        INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)
        SELECT id, '', 1, '', 1, '{}', '{}', now() - interval '2 days' FROM unnest('{kept,gone}'::text[]) AS id;
        CREATE TABLE app_daemons (id varchar(100) REFERENCES _ayb_job_workers (id));
        INSERT INTO app_daemons VALUES ('kept');
    """)
    told: list[object] = []
    beating(db, told.append)()
    assert {row[0] for row in conn.execute("SELECT id FROM _ayb_job_workers")} == {"kept", "me"}
    assert set_aside(told) == ["kept"]


def test_the_lifeline_is_kept_though_a_dead_daemon_cannot_be_forgotten(db: Database, conn: Connection) -> None:
    make_jobs_of_the_dead(conn)
    conn.execute("""
        CREATE TABLE app_daemons (id varchar(100) REFERENCES _ayb_job_workers (id));
        INSERT INTO app_daemons VALUES ('dead');
    """)
    told: list[object] = []
    tick = keeping_the_lifeline(db, told.append)
    for _ in range(6):
        tick()
    while closing_later:
        closing_later.pop()()
    assert states_of_good(conn) == {"queued"}
    assert set_aside(told) == ["dead"]


# What a trigger of the application's may do with a bad row.
REFUSALS = ["RAISE EXCEPTION 'no'", "RAISE EXCEPTION 'no' USING ERRCODE = '40001'", "RETURN NULL", "RETURN old"]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("change", ["begun", "ended"])
def test_a_schedule_whose_row_keeps_it_from_being_noted_is_set_aside(
    db: Database, conn: Connection, change: str, refusal: str
) -> None:
    values = {"last_error": "broken"} if change == "begun" else {"overdue_since": sql.SQL("now()")}
    bad, _ = (make_schedule(conn, name=name, next_run_at=None, **values) for name in ("bad", "good"))
    conn.execute(
        sql.SQL("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF old.name = 'bad' THEN {}; END IF;
                RETURN new;
            END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_job_schedules FOR EACH ROW EXECUTE FUNCTION refuse();
        """).format(sql.SQL(refusal))
    )
    told: list[object] = []
    tick = Alerter(db, told.append).tick
    pauses = []
    for _ in range(7):
        with suppress(psycopg.errors.SerializationFailure):
            pauses.append(tick())
    assert pauses.count(0.0) <= 1, "a turn that noted nothing is not followed by another at once"
    alerts = conn.execute(
        "SELECT schedule.name FROM _ayb_job_alerts JOIN _ayb_job_schedules AS schedule ON schedule_id = schedule.id"
    )
    assert alerts.fetchall() == [("good",)]
    aside = set(set_aside(told))
    assert aside == (set() if change == "ended" and refusal.startswith("RETURN") else {bad})
