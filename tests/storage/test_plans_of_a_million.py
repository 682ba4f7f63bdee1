"""What flow control asks in a table of a million jobs reads pages in proportion to its answer, not to the table."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, LiteralString

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limit_keys, limits, pausable, pauses, under_limit
from ayb_jobs.storage.queue import (
    batch_views,
    batches,
    beside_limits,
    dependencies,
    held,
    limited,
    put_under,
    successors,
    unleasable,
)
from ayb_jobs.storage.queue.lanes import BY_INDEX
from ayb_jobs.storage.throwaway import Databases
from tests.storage.test_plans import LEASE, NOBODY, as_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEYS = 1000
# 250,000 wait under a limit, 250,000 members wait, 250,000 have ended, 250,000 wait for others; 1,000 of each run.
FILL = (
    """
    INSERT INTO _ayb_jobs (type, state, priority, limited_by, limited_key, batch_id, run_at, blocked_run_at, last_run_at,
        execution_id)
    SELECT CASE kind WHEN 0 THEN 'few' ELSE 'test' END,
        CASE WHEN number % 250 < 4 AND kind < 3 THEN 'running' WHEN kind = 2 THEN 'completed' ELSE 'queued' END,
        CASE kind WHEN 0 THEN 6 ELSE 2 END,
        CASE kind WHEN 0 THEN 'few' END,
        CASE kind WHEN 0 THEN 'key ' || number / 4 % 1000 ELSE '' END,
        CASE WHEN kind IN (1, 2) THEN ('00000000-0000-7000-8000-' || lpad((number / 400)::text, 12, '0'))::uuid END,
        CASE kind WHEN 3 THEN '9999-12-31 00:00:00+00' ELSE now() - interval '1 hour' END,
        CASE kind WHEN 3 THEN now() END,
        now(), number
    FROM (SELECT number, number % 4 AS kind FROM generate_series(1, 1000000) AS number) AS made
    """,
    """
    INSERT INTO _ayb_job_batches (id, sealed_at)
    SELECT ('00000000-0000-7000-8000-' || lpad(number::text, 12, '0'))::uuid, now() FROM generate_series(0, 2500) AS number
    """,
    """
    INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule)
    SELECT id, gen_random_uuid(), 'run' FROM _ayb_jobs WHERE blocked_run_at IS NOT NULL
    """,
    """
    INSERT INTO _ayb_job_limit_keys (limit_name, limit_key, tat)
    SELECT 'few', 'key ' || number, now() - interval '2 days' FROM generate_series(1, 10000) AS number
    """,
    "INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('key', 'few/key 7', 'ada')",
)
FEW = {"limit": 200, "aside": [NOBODY]}
SOME = [f"00000000-0000-7000-8000-{number:012d}" for number in range(1000, 1050)]
# Each with the pages that it may read.
STATEMENTS: Mapping[LiteralString, tuple[int, Mapping[str, Any]]] = {
    batches.FIND_SEALED: (500, {"after": NOBODY, "limit": 200}),
    batches.LOOK_AT_BATCHES: (2000, {"ids": SOME, "witnesses": [NOBODY] * len(SOME)}),
    batches.CLOSE_BATCHES: (30_000, {"ids": SOME}),
    batch_views.LIST_BATCHES: (30_000, {"only": None, "before": None, "state": None, "limit": 50, "most": 100_000}),
    dependencies.FIND_RIPE_EDGES: (10_000, {"after_child": NOBODY, "after_parent": NOBODY, "limit": 1000}),
    beside_limits.LEASE_BESIDE_LIMITS: (20_000, LEASE),
    limited.FIND_WAITING_LIMITS: (3000, {"idle": ["few"]}),  # it counts what runs, up to the limit's 2,000
    successors.FIND_STRANDED: (500, FEW),
    limits.LIST_KEYS: (60_000, {"name": "few", "most": 20, "counted": 1000}),
    limits.LIST_LIMITS: (20_000, {"alive_s": 60, "only": None, "counted": 10_000}),
    limits.COUNT_LIMITED: (20_000, {"most": 10, "counted": 10_000}),
    limits.WATCH_LIMITS: (500, {"worker_id": "w"}),
    pauses.WATCH_PAUSES: (5000, {"worker_id": "w"}),
    pauses.LIST_UNCONFIRMED: (500, {"alive_s": 60}),
    pauses.FIND_PAUSE: (500, {"queue": "default", "type": "few", "key": "few/key 7"}),
    pausable.LIST_KEYS: (60_000, {"most": 20, "alive_s": 60, "only": None, "counted": 1000}),
    under_limit.LOOK_AT_KEY: (5000, {"name": "few", "key": "key 7"}),
    under_limit.FIND_LIMIT_TO_COME: (500, {"id": NOBODY}),
    held.LIST_HELD: (60_000, {"since_s": 0.0, "most": 20}),
    limit_keys.FIND_OLD_LIMIT_KEYS: (3000, {"keep": "1 hour", "limit_name": None, "limit_key": None, "limit": 1000}),
    limit_keys.DELETE_LIMIT_KEYS: (5000, {"names": ["few"] * 50, "keys": [f"key {number}" for number in range(50)]}),
    limited.FIND_FIRST_LIMITED: (
        20_000, {"name": "few", "types": ["few"], "queues": ["default"], "after": "key 5", **FEW, "limit": 1000},
    ),
    put_under.PUT_UNDER: (500, {"ids": [NOBODY]}),
    put_under.FIND_RUNNING_BESIDE: (10_000, {"worker_id": "w"}),
    put_under.FIND_REMOVED: (3000, {"names": ["few"], **FEW}),
    put_under.FIND_LEFT: (500, FEW),
    put_under.FREE_REMOVED: (500, {"ids": [NOBODY]}),
    batches.FIND_BATCHES_OF: (500, {"jobs": [NOBODY]}),
    batches.LOCK_BATCHES: (500, {"ids": SOME, "patience": "1s"}),
    batches.FIND_OLD_BATCHES: (20_000, {"after": None, "limit": 1000}),
    batches.DELETE_BATCHES: (3000, {"ids": SOME}),
    batch_views.CANCEL_BATCH: (500, {"id": SOME[0]}),
    dependencies.FIND_EDGES_OF: (
        500, {"parents": SOME, "after_parent": NOBODY, "after_child": NOBODY, "first": NOBODY, "limit": 1000},
    ),
    dependencies.LOCK_CHILDREN: (500, {"children": SOME, "patience": "1s"}),
    dependencies.CLOSE_EDGES: (3000, {"children": SOME, "parents": SOME}),
    dependencies.FORGET_EDGES: (500, {"children": SOME}),
    dependencies.LIST_FAMILY: (500, {"id": NOBODY, "most": 100}),
    dependencies.FIND_ORPHANED_EDGES: (10_000, {"after": None, "limit": 1000}),
    dependencies.DELETE_EDGES: (500, {"ids": SOME}),
    "SELECT _ayb_job_batch_seal(%(id)s::uuid)": (500, {"id": SOME[0]}),
    "SELECT ayb_jobs.ayb_jobs_lease('w', '{few,test}', n => 50)": (60_000, {}),
    "SELECT ayb_jobs.ayb_jobs_enqueue('test', unique_key => 'k', on_conflict => 'replace')": (500, {}),
    "SELECT ayb_jobs.ayb_jobs_enqueue('test', depends_on => ARRAY[%(id)s::uuid])": (500, {"id": NOBODY}),
}  # fmt: skip
ASKED_BY_INDEX = {successors.FIND_STRANDED, limited.FIND_FIRST_LIMITED, put_under.FIND_LEFT}


@pytest.fixture(scope="module", params=[True, False], ids=["analyzed", "never analyzed"])
def million(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Connection]:
    """A connection as the daemon's loops have them."""
    with databases.migrated() as url, closing(Database(url)) as db, db.connection() as conn:
        conn.execute("SET statement_timeout = 0")
        for name in ("_ayb_jobs", "_ayb_job_dependencies", "_ayb_job_batches"):
            conn.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)".encode())
        for text in FILL:
            conn.execute(text.encode())
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["few", "gone"], max_running=1), by="test")
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name="few", types=["few"], key_max_running=8, max_running=2000), by="test")
        if request.param:
            conn.execute("VACUUM ANALYZE")
        yield conn


def pages(conn: Connection, statement: str, values: Mapping[str, Any]) -> int:
    """Return how many pages a statement touches; what it changes is undone."""
    with conn.transaction(force_rollback=True):
        conn.execute(BY_INDEX if statement in ASKED_BY_INDEX else "SELECT 1")
        given = {name: as_text(value) for name, value in values.items()}
        lines = [row[0] for row in conn.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}".encode(), given)]
    print("\n".join(lines))
    touched = re.search(r"Buffers: shared (.*)", "\n".join(lines))
    assert touched is not None
    return sum(int(count) for _, count in re.findall(r"(hit|read)=(\d+)", touched[1]))


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: " ".join(text.split())[:40])
def test_a_statement_of_flow_control_reads_what_it_answers(million: Connection, statement: LiteralString) -> None:
    most, values = STATEMENTS[statement]
    assert pages(million, statement, values) <= most


UNDER: Mapping[str, Any] = {
    "name": "few", "room": 50, "types": ["few"], "queues": ["default"], "aside": [], "only": None, "after": "",
    "worker_id": "w", "lease_s": 60.0, "careful": False, "wait_s": 1.0,
    "floor_keys": [], "floor_run_ats": [], "floor_ids": [],
}  # fmt: skip


@pytest.mark.parametrize("after", ["", "key 5"])
def test_a_look_under_a_limit_of_a_thousand_keys_reads_few_pages(million: Connection, after: str) -> None:
    assert pages(million, limited.LEASE_LIMITED, {**UNDER, "after": after}) <= 60_000


def test_trying_whether_jobs_can_be_leased_reads_few_pages(million: Connection) -> None:
    """A block that runs tells no plan, so what it reads is counted by the server."""
    rows = million.execute("SELECT id::text FROM _ayb_jobs WHERE limited_by = 'few' AND state = 'queued' LIMIT 100")
    ids = [row[0] for row in rows]
    before = sequential_scans(million)
    assert unleasable.find_unleasable(million, ids, worker_id="w", lease_s=60, enough=100) == []
    assert sequential_scans(million) == before


def sequential_scans(conn: Connection) -> int:
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute("SELECT pg_stat_get_numscans('_ayb_jobs'::regclass)").fetchone()
    assert row is not None
    return int(row[0])
