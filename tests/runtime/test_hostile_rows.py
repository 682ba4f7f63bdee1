"""No row that plain SQL can write stops a loop: good rows beside it are handled, and it is told which are bad."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.events import Emit, RowSetAside
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.daemons import Worker
from ayb_jobs.runtime.fleet.heartbeat import Heartbeat
from ayb_jobs.runtime.fleet.recoverer import Recoverer
from ayb_jobs.runtime.loop import Loop
from ayb_jobs.storage.database import Connection, Database
from ayb_jobs.storage.fleet.daemons import list_workers
from tests.eventually import eventually
from tests.factories import make_job

ROWS = 900
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
    "text": ["NULL", *TEXTS],
    "character varying": ["NULL", "''", "'a'", "U&'\\FFFD\\202E'", "repeat('x', 100)", "'queued'", "'running'", "'failed'"],
}  # fmt: skip
COLUMNS = """
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_name = %s AND is_generated = 'NEVER' AND is_identity = 'NO' ORDER BY ordinal_position
"""


def write_hostile_rows(conn: Connection, table: str, always: dict[str, str] | None = None, seed: int = 0) -> int:
    """Write rows with up to four columns at their edges, by plain SQL; return how many the table took."""
    chance = random.Random(seed)  # noqa: S311 - the same rows each time
    columns: dict[str, str] = dict(conn.execute(COLUMNS, (table,)).fetchall())
    taken = 0
    for _ in range(ROWS):
        chosen = chance.sample(sorted(columns), k=min(len(columns), chance.randint(1, 4)))
        values = (always or {}) | {name: chance.choice(EDGES[columns[name]]) for name in chosen}
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            names,
            sql.SQL(", ".join(values.values())),
        )
        with suppress(psycopg.Error):
            conn.execute(statement)
            taken += 1
    assert taken > ROWS / 20, f"{table} took only {taken} hostile rows"
    return taken


@dataclass
class Case:
    """A loop: the tables that it reads, what makes its turns, and what good rows beside the bad must have become."""

    hostile: Sequence[tuple[str, dict[str, str]]]
    tick: Callable[[Database, Emit], Callable[[], float]]
    prepare: Callable[[Connection], object]
    progressed: Callable[[Connection], bool]
    turns: int = 12


ME = Worker(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])
RUNNING = {"type": "'noop'", "state": "'running'", "lease_id": "gen_random_uuid()"}


def recovering(db: Database, emit: Emit) -> Callable[[], float]:
    return Recoverer(database=db, emit=emit, backoff=Backoff(), max_crashes=3, lease_s=30).tick


def beating(db: Database, emit: Emit) -> Callable[[], float]:
    return Heartbeat(database=db, worker=ME, emit=emit).tick


def make_lost_jobs(conn: Connection) -> None:
    for _ in range(5):
        make_job(conn, "running", type="good", lease_until=sql.SQL("now() - interval '1 second'"))


def states_of_good(conn: Connection) -> set[str]:
    return {row[0] for row in conn.execute("SELECT state FROM _ayb_jobs WHERE type = 'good'")}


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
    ),
    "heartbeat": Case(
        hostile=[
            ("_ayb_jobs", {"type": "'noop'"}),
            ("_ayb_job_workers", {"id": "gen_random_uuid()", "host": "''", "pid": "1", "version": "''",
                "concurrency": "1", "queues": "'{}'", "types": "'{}'"}),
        ],
        tick=beating,
        prepare=lambda _: None,
        progressed=lambda conn: "me" in {seen.worker.id for seen in list_workers(conn)},
    ),
}  # fmt: skip


@pytest.fixture(params=LOOPS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each loop in turn."""
    return LOOPS[request.param]


def test_hostile_rows_stop_no_loop(case: Case, db: Database, conn: Connection) -> None:
    for seed, (table, always) in enumerate(case.hostile):
        write_hostile_rows(conn, table, always, seed)
    case.prepare(conn)
    tick = case.tick(db, lambda _: None)
    for _ in range(case.turns):
        tick()
    assert case.progressed(conn)


def refuse_bad_rows(conn: Connection, table: str, when: str) -> None:
    """Have a trigger of the application's raise for rows that it calls bad."""
    conn.execute(
        sql.SQL("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {when} THEN RAISE EXCEPTION 'the application refuses it'; END IF;
                RETURN coalesce(new, old);
            END $$
        """).format(when=sql.SQL(when))
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
    eventually(lambda: len([event for event in told if isinstance(event, RowSetAside)]) == len(bad))
    loop.stop()
    assert loop.join(5)
    assert sorted(event.row_id for event in told if isinstance(event, RowSetAside)) == sorted(bad)
    assert all("the application refuses it" in event.error for event in told if isinstance(event, RowSetAside))


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
