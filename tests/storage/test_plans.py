"""Each hot statement keeps its index: with and without statistics, planned for its values or for any."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, LiteralString

import pytest
from psycopg import sql

from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import lifelines
from ayb_jobs.storage.queue import (
    batches,
    beside_limits,
    dependencies,
    leases,
    leasing,
    recovery,
    settling,
    turns,
)
from ayb_jobs.storage.queue.lanes import NO_FLOOR
from ayb_jobs.storage.throwaway import Databases

BATCH = 500
NOBODY = "00000000-0000-4000-8000-000000000000"

LEASE: Mapping[str, Any] = {
    "worker_id": "w",
    "queues": ["default"] * 4,
    "priorities": [1, 2, 3, 4],
    "floor_run_ats": [NO_FLOOR[0]] * 4,
    "floor_ids": [NO_FLOOR[1]] * 4,
    "types": ["test"],
    "limit": BATCH,
    "lease_s": 300.0,
    "aside": [NOBODY],
    "shares": [30] * 4,
    "rooms": [BATCH] * 4,
    "by_turn": True,
}
SETTLE: Mapping[str, Any] = {
    "worker_id": "w",
    "ids": [NOBODY] * BATCH,
    "lease_ids": [NOBODY] * BATCH,
    "states": [],
    "outcomes": [],
    "delays": [],
    "errors": [],
    "records": [],
    "started_ago": [1000] * BATCH,
    "ended_ago": [10] * BATCH,
}
PROGRESS: Mapping[str, Any] = {"id": NOBODY, "lease_id": NOBODY, "progress": "{}", "lease_s": 300.0}
FIND_EXPIRED: Mapping[str, Any] = {"limit": 100, "floor": "-infinity", "ahead_s": 4.0, "aside": []}
FIND_OF_THE_DEAD: Mapping[str, Any] = {"limit": 100, "dead": ["w"], "last_leases": ["infinity"], "aside": []}
RECOVER: Mapping[str, Any] = {
    "ids": [NOBODY] * BATCH,
    "lease_ids": [NOBODY] * BATCH,
    "lease_untils": ["2026-01-01"] * BATCH,
    "dead": [False] * BATCH,
    "states": ["queued"] * BATCH,
    "delays": [1.0] * BATCH,
    "errors": ["lost"] * BATCH,
    "records": [None] * BATCH,
}

TOUCH: Mapping[str, Any] = {"ids": [NOBODY] * 5, "lease_ids": [NOBODY] * 5, "lease_s": 300.0}

# Whether the table was analyzed, and how many jobs of each state are in it.
TABLES: Mapping[str, tuple[bool, Mapping[str, int]]] = {
    "just loaded, never analyzed": (False, {"queued": 10_000}),
    "a backlog, nothing runs": (True, {"queued": 10_000}),
    "a long history": (True, {"completed": 10_000, "queued": 600}),
    "a history, never analyzed": (False, {"completed": 10_000, "queued": 600}),
}


@pytest.fixture(scope="module", params=TABLES)
def table_of_jobs(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Connection]:
    """A connection as the daemon's loops have them, to a database with jobs in it that no test changes."""
    with databases.migrated() as url, closing(Database(url)) as db, db.connection() as conn:
        fill(conn, *TABLES[request.param])
        yield conn


@pytest.fixture(scope="module", params=TABLES)
def table_of_batches(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Connection]:
    """As `table_of_jobs`, with batches and their members beside the jobs."""
    with databases.migrated() as url, closing(Database(url)) as db, db.connection() as conn:
        fill(conn, *TABLES[request.param])
        add_batches(conn)
        yield conn


@pytest.fixture(params=TABLES)
def table_to_change(request: pytest.FixtureRequest, db: Database) -> Iterator[Connection]:
    """A connection as the daemon's loops have them, to a database of the test's own with jobs in it."""
    with db.connection() as conn:
        fill(conn, *TABLES[request.param])
        yield conn


def fill(conn: Connection, analyzed: bool, counts: Mapping[str, int]) -> None:
    for name in ("_ayb_jobs", "_ayb_job_dependencies", "_ayb_job_batches", "_ayb_job_batch_callbacks"):
        conn.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = false)").format(sql.Identifier(name)))
    for state, count in counts.items():
        conn.execute(
            "INSERT INTO _ayb_jobs (type, state, run_at)"
            " SELECT 'test', %s, now() - interval '1 hour' FROM generate_series(1, %s)",
            (state, count),
        )
    if analyzed:
        conn.execute("ANALYZE")
    conn.execute(
        "INSERT INTO _ayb_job_dependencies SELECT gen_random_uuid(), gen_random_uuid(), 'run', number % 2 = 0"
        " FROM generate_series(1, 20000) AS number"
    )


def add_batches(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_batches (id, sealed_at, done_at)"
        " SELECT gen_random_uuid(), now(), now() FROM generate_series(1, 20000)"
    )
    conn.execute(
        "INSERT INTO _ayb_job_batch_callbacks (batch_id, event, job_id, type)"
        " SELECT gen_random_uuid(), 'done', gen_random_uuid(), 'test' FROM generate_series(1, 20000)"
    )
    conn.execute(
        "INSERT INTO _ayb_jobs (type, batch_id) SELECT 'test', gen_random_uuid() FROM generate_series(1, 10000)"
    )


def plan(conn: Connection, mode: str, statement: LiteralString, values: Mapping[str, Any]) -> str:
    """Return how the server would run a statement that its client has prepared."""
    names: list[str] = []

    def numbered(found: "re.Match[str]") -> str:
        name = found[1]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, statement).replace("%%", "%")
    conn.execute("SELECT set_config('plan_cache_mode', %s, false)", (mode,))
    conn.execute(sql.SQL("PREPARE probe AS {}").format(sql.SQL(text)))
    given = sql.SQL(", ").join(sql.Literal(as_text(values[name])) for name in names)
    rows = conn.execute(sql.SQL("EXPLAIN EXECUTE probe ({})").format(given)).fetchall()
    conn.execute("DEALLOCATE probe")
    return "\n".join(row[0] for row in rows)


def as_text(value: Any) -> Any:
    """Write a list as the array text that the daemon sends."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "{" + ",".join("NULL" if item is None else str(item) for item in value) + "}"
    return value


MODES = pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
READS_ALL = "Seq Scan on _ayb_jobs"


@MODES
@pytest.mark.parametrize(
    "statement",
    [leasing.LEASE_JOBS, turns.LEASE_BY_TURN, beside_limits.LEASE_BESIDE_LIMITS],
    ids=["all", "by turn", "beside limits"],
)
def test_leasing_walks_the_ready_index_and_sorts_nothing_on_the_way(
    table_of_jobs: Connection, mode: str, statement: LiteralString
) -> None:
    found = plan(table_of_jobs, mode, statement, LEASE)
    assert READS_ALL not in found
    assert re.search(r"LockRows.*\n *->  Index Scan using idx_ayb_jobs_ready on _ayb_jobs job(_1)? ", found)
    walks = re.findall(
        r"\(ROW\(run_at, id\) > ROW\(lane(?:_\d)?.run_at, lane(?:_\d)?.id\)\) AND \(run_at <= now\(\)\)", found
    )
    assert len(walks) == found.count("idx_ayb_jobs_ready")
    assert "_ayb_jobs_pkey" in found


@MODES
@pytest.mark.parametrize(
    "statement",
    [
        settling.COMPLETE_JOBS,
        settling.REMOVE_COMPLETED_JOBS,
        settling.SETTLE_JOBS,
        settling.SETTLE_AND_REMOVE_JOBS,
    ],
    ids=["complete", "remove completed", "keep", "remove"],
)
def test_settling_finds_its_jobs_by_their_ids(table_of_jobs: Connection, mode: str, statement: LiteralString) -> None:
    found = plan(table_of_jobs, mode, statement, SETTLE)
    assert READS_ALL not in found
    assert "_ayb_jobs_pkey" in found
    assert "idx_ayb_jobs_lease" not in found


@MODES
@pytest.mark.parametrize("statement", [leases.EXTEND_LEASES, leases.RELEASE_JOBS], ids=["extend", "release"])
def test_extending_and_releasing_find_their_jobs_by_their_ids(
    table_of_jobs: Connection, mode: str, statement: LiteralString
) -> None:
    found = plan(table_of_jobs, mode, statement, TOUCH)
    assert READS_ALL not in found
    assert "_ayb_jobs_pkey" in found
    assert "idx_ayb_jobs_lease" not in found


@MODES
def test_progress_finds_its_job_by_its_id(table_of_jobs: Connection, mode: str) -> None:
    found = plan(table_of_jobs, mode, leases.REPORT_PROGRESS, PROGRESS)
    assert "_ayb_jobs_pkey" in found
    assert "idx_ayb_jobs_lease" not in found


@MODES
def test_looking_for_lost_leases_walks_the_lease_index(table_of_jobs: Connection, mode: str) -> None:
    found = plan(table_of_jobs, mode, recovery.FIND_EXPIRED_LEASES, FIND_EXPIRED)
    assert READS_ALL not in found
    assert "Index Scan using idx_ayb_jobs_lease" in found


@MODES
def test_looking_for_what_the_dead_hold_walks_the_lease_index(table_of_jobs: Connection, mode: str) -> None:
    found = plan(table_of_jobs, mode, recovery.FIND_LEASES_OF_THE_DEAD, FIND_OF_THE_DEAD)
    assert READS_ALL not in found
    assert "Index Scan using idx_ayb_jobs_lease" in found


def test_recovering_finds_its_jobs_by_their_ids(table_of_jobs: Connection) -> None:
    found = plan(table_of_jobs, "force_custom_plan", recovery.RECOVER_JOBS, RECOVER)
    assert READS_ALL not in found


LOOKS: Mapping[LiteralString, Mapping[str, Any]] = {
    lifelines.LOOK: {"worker_id": "w", "buried": ["dead"]},
    lifelines.LAST_LEASES: {"worker_ids": ["dead"]},
    leases.FIND_ORPHANS: {"worker_id": "w", "lease_ids": []},
}


@MODES
@pytest.mark.parametrize("statement", LOOKS, ids=["look", "last leases", "orphans"])
def test_looking_for_what_runs_reads_the_lease_index_alone(
    table_of_jobs: Connection, mode: str, statement: LiteralString
) -> None:
    found = plan(table_of_jobs, mode, statement, LOOKS[statement])
    assert READS_ALL not in found
    assert "idx_ayb_jobs_lease" in found


EDGES: Mapping[LiteralString, Mapping[str, Any]] = {
    dependencies.FIND_EDGES_OF: {
        "parents": [NOBODY] * BATCH,
        "after_parent": NOBODY,
        "after_child": NOBODY,
        "first": NOBODY,
        "limit": 500,
    },
    dependencies.FIND_RIPE_EDGES: {"after_child": NOBODY, "after_parent": NOBODY, "limit": 1000},
    dependencies.LOCK_CHILDREN: {"children": [NOBODY] * BATCH, "patience": "1s"},
    dependencies.CLOSE_EDGES: {"children": [NOBODY] * BATCH, "parents": [NOBODY] * BATCH},
    dependencies.FORGET_EDGES: {"children": [NOBODY] * BATCH},
}


@MODES
@pytest.mark.parametrize("statement", EDGES, ids=["of parents", "ripe", "lock", "close", "forget"])
def test_resolving_finds_edges_and_jobs_by_their_ids(
    table_of_jobs: Connection, mode: str, statement: LiteralString
) -> None:
    found = plan(table_of_jobs, mode, statement, EDGES[statement])
    assert READS_ALL not in found
    assert "Seq Scan on _ayb_job_dependencies" not in found
    assert "idx_ayb_jobs_ready" not in found


LOOK_UNDER = re.compile(r"(WITH RECURSIVE keys .*?)INTO picked[^;]*?(FROM chosen;)", re.DOTALL)
VALUES_UNDER = {
    "p_name": "'few'::text", "p_after": "''::text", "p_types": "'{test}'::text[]", "p_queues": "'{default}'::text[]",
    "p_aside": "'{}'::uuid[]", "p_only": "NULL::uuid[]", "spare": "50", "at": "now()",
    "held.key_max_running": "4", "held.key_every": "interval '1 s'", "held.key_burst": "1", "paused_keys": "'{}'::text[]",
    "running_keys": "'{}'::text[]", "running_jobs": "'{}'::int[]", "p_floor_keys": "'{}'::text[]",
    "p_floor_run_ats": "('{}'::timestamptz[])", "p_floor_ids": "('{}'::uuid[])", "nobody": f"'{NOBODY}'::uuid",
}  # fmt: skip


def test_a_look_under_a_limit_walks_its_own_indexes(table_to_change: Connection) -> None:
    """The function runs it without sequential scans, whatever the statistics say."""
    table_to_change.execute(
        "UPDATE _ayb_jobs SET limited_by = 'few', limited_key = right(id::text, 2), priority = 6 WHERE state = 'queued'"
    )
    row = table_to_change.execute("SELECT pg_get_functiondef('_ayb_job_lease_limited'::regproc)").fetchone()
    found = LOOK_UNDER.search(row[0] if row else "")
    assert found is not None
    text = found[1] + found[2].removesuffix(";")
    for name, value in VALUES_UNDER.items():
        text = re.sub(rf"(?<![\w.]){re.escape(name)}\b(?!\.)", value, text)
    table_to_change.execute("SET enable_seqscan = off")
    lines = "\n".join(line[0] for line in table_to_change.execute(f"EXPLAIN {text}".replace("%", "%%").encode()))
    assert "Seq Scan on _ayb_jobs" not in lines
    assert "Index Scan using idx_ayb_jobs_limited on _ayb_jobs job" in lines


ENDS: Mapping[LiteralString, Mapping[str, Any]] = {
    batches.FIND_BATCHES_OF: {"jobs": [NOBODY] * BATCH},
    batches.FIND_SEALED: {"after": NOBODY, "limit": 200},
    batches.LOOK_AT_BATCHES: {"ids": [NOBODY] * 200, "witnesses": [NOBODY] * 200},
    batches.LOCK_BATCHES: {"ids": [NOBODY] * 200, "patience": "1s"},
    batches.CLOSE_BATCHES: {"ids": [NOBODY] * 200},
}


@MODES
@pytest.mark.parametrize("statement", ENDS, ids=["of members", "sealed", "look", "lock", "close"])
def test_ending_batches_reads_their_members_alone(
    table_of_batches: Connection, mode: str, statement: LiteralString
) -> None:
    found = plan(table_of_batches, mode, statement, ENDS[statement])
    for name in ("_ayb_jobs", "_ayb_job_batches", "_ayb_job_batch_callbacks"):
        assert f"Seq Scan on {name}" not in found
    assert not re.search("idx_ayb_jobs_(ready|lease|created)", found)
