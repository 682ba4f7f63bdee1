"""Retention: old executions and old completed jobs deleted and vacuumed, beside inserting them and dropping a day."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.lab.bench.cleanup import wal_position
from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.scratch import Bench, batches, no_time_limit
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.pruning import prune_executions, prune_jobs

KEEP = timedelta(days=30)
INSERTING = "inserting it"

INSERT_OLD_EXECUTIONS = """
    INSERT INTO _ayb_job_executions (id, job_id, job_type, lease_id, attempt, worker_id, outcome, started_at, ended_at)
    SELECT nextval('_ayb_job_execution_ids'), _ayb_job_id(), 'noop', gen_random_uuid(), 1, 'host:1:0123456789ab',
        'completed', at, at
    FROM generate_series(1, %(count)s) AS number,
        LATERAL (SELECT now() - interval '40 days' + number * interval '1 millisecond' AS at) AS moment
"""
INSERT_OLD_JOBS = """
    INSERT INTO _ayb_jobs (id, type, payload, state, attempts, last_run_at, completed_at, created_at)
    SELECT _ayb_job_id(), 'noop', jsonb_build_object('n', number), 'completed', 1, at, at, at
    FROM generate_series(1, %(count)s) AS number,
        LATERAL (SELECT now() - interval '40 days' + number * interval '1 millisecond' AS at) AS moment
"""
# As the log would be if it were in partitions by day.
MAKE_DAY = """
    CREATE TABLE bench_log (LIKE _ayb_job_executions INCLUDING INDEXES);
    INSERT INTO bench_log SELECT * FROM _ayb_job_executions;
"""


class Cost(NamedTuple):
    """What a row costs: microseconds and bytes of WAL."""

    us: float
    wal_bytes: float


def measure(bench: Bench) -> Iterator[Figure]:
    """Insert, delete and vacuum `rows` of each kind, and drop a table that holds as many executions."""
    rounds = [of_a_round(bench) for _ in range(bench.rounds)]
    for kind in ("execution", "completed job"):
        for number, (cost, unit) in enumerate({"time": "µs", "WAL": "B"}.items()):
            pairs = [Pair(one[f"{kind} deleted"][number], one[f"{kind} inserted"][number]) for one in rounds]
            yield figure("retention", f"{cost} of deleting one {kind}", unit, pairs, against=INSERTING)
    dropped = [Pair(one["day dropped"].us, one["execution deleted"].us) for one in rounds]
    yield figure("retention", "time of dropping a day, each execution", "µs", dropped, against="deleting it")


def of_a_round(bench: Bench) -> dict[str, Cost]:
    """Return what each step costs."""
    found: dict[str, Cost] = {}
    with bench.database() as url, closing(connect(url)) as conn:
        no_time_limit(conn)
        for table in ("_ayb_jobs", "_ayb_job_executions"):  # its time would be counted or not, by chance
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)".encode())

        def step(name: str, action: Callable[[], object]) -> None:
            bench.tell(f"retention: {name}")
            found[name] = cost_of(conn, action, bench.rows)

        step("execution inserted", lambda: insert(conn, INSERT_OLD_EXECUTIONS, bench.rows))
        step("completed job inserted", lambda: insert(conn, INSERT_OLD_JOBS, bench.rows))
        conn.execute(MAKE_DAY)
        conn.execute("VACUUM (ANALYZE)")
        conn.execute("CHECKPOINT")
        step("execution deleted", lambda: delete_executions(conn))
        step("completed job deleted", lambda: delete_jobs(conn))
        step("day dropped", lambda: conn.execute("DROP TABLE bench_log"))
    return found


def cost_of(conn: Connection, action: Callable[[], object], rows: int) -> Cost:
    """Return what something costs for each of so many rows."""
    began, lsn = time.perf_counter(), wal_position(conn)
    action()
    took_s = time.perf_counter() - began
    return Cost(took_s / rows * 1e6, (wal_position(conn) - lsn) / rows)


def insert(conn: Connection, statement: str, rows: int) -> None:
    """Insert so many rows, in statements of a few seconds."""
    for count in batches(rows):
        conn.execute(statement.encode(), {"count": count})


def delete_executions(conn: Connection) -> None:
    """Delete old executions as the pruner does, and vacuum what is left."""
    found = prune_executions(conn, keep=KEEP)
    while found.next is not None:
        found = prune_executions(conn, keep=KEEP, after=found.next)
    conn.execute("VACUUM _ayb_job_executions")


def delete_jobs(conn: Connection) -> None:
    """Delete old completed jobs as the pruner does, and vacuum what is left."""
    found = prune_jobs(conn, state=JobState.COMPLETED, keep=KEEP)
    while found.next is not None:
        found = prune_jobs(conn, state=JobState.COMPLETED, keep=KEEP, after=found.next)
    conn.execute("VACUUM _ayb_jobs")
