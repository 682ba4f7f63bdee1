"""What flow control asks in a table of a million jobs reads pages in proportion to its answer, not to the table."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, LiteralString

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import LIST_KEYS, set_limit
from ayb_jobs.storage.queue import batch_views, batches, dependencies, limited, successors
from ayb_jobs.storage.throwaway import Databases
from tests.storage.test_plans import LEASE, NOBODY, as_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEYS = 1000
# 250,000 wait under a limit, 250,000 members wait, 250,000 have ended, 250,000 wait for others; 1,000 of each run.
FILL = (
    """
    INSERT INTO _ayb_jobs (type, state, priority, limited_by, limited_key, batch_id, run_at, blocked_run_at, last_run_at)
    SELECT CASE kind WHEN 0 THEN 'few' ELSE 'test' END,
        CASE WHEN number % 250 < 4 AND kind < 3 THEN 'running' WHEN kind = 2 THEN 'completed' ELSE 'queued' END,
        CASE kind WHEN 0 THEN 6 ELSE 2 END,
        CASE kind WHEN 0 THEN 'few' END,
        CASE kind WHEN 0 THEN 'key ' || number / 4 % 1000 ELSE '' END,
        CASE WHEN kind IN (1, 2) THEN ('00000000-0000-7000-8000-' || lpad((number / 400)::text, 12, '0'))::uuid END,
        CASE kind WHEN 3 THEN '9999-12-31 00:00:00+00' ELSE now() - interval '1 hour' END,
        CASE kind WHEN 3 THEN now() END,
        now()
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
    limited.LEASE_BESIDE_LIMITS: (20_000, LEASE),
    limited.FIND_WAITING_LIMITS: (3000, {"idle": ["few"]}),  # it counts what runs, up to the limit's 2,000
    successors.FIND_STRANDED: (500, FEW),
    LIST_KEYS: (60_000, {"name": "few", "most": 20, "counted": 1000}),
}


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
            set_limit(conn, NewLimit(name="few", types=["few"], key_max_running=8, max_running=2000), by="test")
        if request.param:
            conn.execute("VACUUM ANALYZE")
        yield conn


def pages(conn: Connection, statement: str, values: Mapping[str, Any]) -> int:
    """Return how many pages a statement touches; what it changes is undone."""
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL enable_seqscan = off" if statement == successors.FIND_STRANDED else "SELECT 1")
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
    "worker_id": "w", "lease_s": 60.0, "careful": False,
}  # fmt: skip


def test_a_look_under_a_limit_of_a_thousand_keys_reads_few_pages(million: Connection) -> None:
    assert pages(million, limited.LEASE_LIMITED, UNDER) <= 60_000
