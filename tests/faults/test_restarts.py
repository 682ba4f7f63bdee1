"""A database that is away for a while: work goes on as soon as it answers, and nothing runs twice."""

import threading
from collections import Counter
from contextlib import closing
from statistics import median

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.events import LoopErrorRepeated
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.migrate import migrate
from tests.eventually import eventually
from tests.running import Running, running

# What was acknowledged outlives a crash of the server.
DURABLE = {"synchronous_commit": "on", "full_page_writes": "on"}
OUTAGES = 3
JOBS = 60
# Beyond it a loop has waited for as long as it ever does between two tries.
TRIES = 5
STATES = "SELECT state, max(attempts), count(*) FROM _ayb_jobs GROUP BY state"
FIRST_LEASED = """
    SELECT extract(epoch FROM min(last_run_at) - pg_postmaster_start_time())::float8
    FROM _ayb_jobs
    WHERE last_run_at > pg_postmaster_start_time()
"""


def test_work_goes_on_as_soon_as_the_database_answers_and_nothing_runs_twice() -> None:
    """Each outage is far shorter than a third of the leases, and long enough that no loop tries often any more."""
    runs: Counter[str] = Counter()
    registry = Registry()

    @registry.handler("test")
    def run(ctx: JobContext) -> None:
        runs[ctx.job.id] += 1
        threading.Event().wait(0.1)

    with EmbeddedPostgres.throwaway(settings=DURABLE) as server:
        with closing(connect(server.url())) as conn:
            migrate(conn)
        with running(server.url(), registry, worker_concurrency=2, lease_duration_s=120) as daemon:
            waited = [outage(server, daemon, runs) for _ in range(OUTAGES)]
        with closing(connect(server.url())) as conn:
            assert conn.execute(STATES).fetchall() == [("completed", 1, OUTAGES * JOBS)]
    assert set(runs.values()) == {1}
    # A second between two tries at most, and the server's own recovery; a busy machine may delay one of them.
    assert median(waited) <= 1.5, waited
    assert max(waited) <= 5, waited


def outage(server: EmbeddedPostgres, daemon: Running, runs: Counter[str]) -> float:
    """Crash the server amid jobs, and start it a while later; return how long after its start a job was leased."""
    ran = len(runs)
    with closing(connect(server.url())) as conn:
        enqueue_many(conn, [NewJob(type="test") for _ in range(JOBS)])
    eventually(lambda: len(runs) >= ran + 4)
    server.stop("immediate")
    failed = producer_failures(daemon)
    eventually(lambda: producer_failures(daemon) >= failed + TRIES, within_s=60)
    server.start()
    with closing(connect(server.url())) as conn:
        waited = eventually(lambda: conn.execute(FIRST_LEASED).fetchall()[0][0], within_s=60)
        eventually(lambda: {row[0] for row in conn.execute(STATES)} == {"completed"}, within_s=60)
    return float(waited)


def producer_failures(daemon: Running) -> int:
    return sum(event.loop == "producer" for event in daemon.recorder.of(LoopErrorRepeated))
