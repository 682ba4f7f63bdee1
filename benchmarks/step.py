"""What a step costs beside a bare insert of the same row, in turn on one database: `python benchmarks/step.py URL`.

The database has to be migrated, and one to throw away: a job is put into it, and rows are left.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count

import structlog

from ayb_jobs import JobContext, NewJob, enqueue
from ayb_jobs.handlers.context import ContextServices
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs

ROUNDS, CALLS = 11, 80
INSERT = "INSERT INTO bench_steps (job_id, name, result) VALUES (%s, %s, %s::jsonb)"


def main() -> None:
    """Print how many of each are done in a second, and the ratio of the medians."""
    with closing(Database(sys.argv[1], name="bench-steps")) as database:
        context = leased(database)
        with database.connection() as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS bench_steps (LIKE _ayb_job_steps INCLUDING ALL)")
        numbers = map(str, count())
        steps, inserts = [], []
        for _ in range(ROUNDS):
            steps.append(per_second(lambda: context.step(next(numbers), lambda: {"id": 1})))
            inserts.append(per_second(lambda: insert(database, context.job.id, next(numbers))))
    step, bare = statistics.median(steps), statistics.median(inserts)
    print(f"steps {step:.0f}/s, bare inserts {bare:.0f}/s, ratio {step / bare:.2f}")


def leased(database: Database) -> JobContext:
    """Return the context of a job that is leased for an hour."""
    with database.connection() as conn:
        enqueue(conn, NewJob(type="bench_steps"))
        (job, *_) = lease_jobs(
            conn, worker_id="bench", lanes=[Lane("default", 2)], types=["bench_steps"], limit=1, lease_s=3600
        )
    return JobContext(job, ContextServices(database=database, lease_s=3600, logger=structlog.get_logger()))


def insert(database: Database, job_id: str, name: str) -> None:
    """Insert a row as a step does, with nothing around it."""
    with database.connection() as conn:
        conn.execute(INSERT, (job_id, name, '{"id":1}'))


def per_second(call: Callable[[], object]) -> float:
    """Return how often a call can be made in a second."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return CALLS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
