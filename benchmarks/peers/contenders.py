"""Who is measured: each queue's packages, its worker script, and how to see what is unfinished."""

from dataclasses import dataclass
from enum import StrEnum


class Runtime(StrEnum):
    """What runs a worker script."""

    OURS = "this project's Python"
    PYTHON = "Python"
    NODE = "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A job queue. `packages` are what its registry calls it, the first one naming its version in the report."""

    name: str
    runtime: Runtime
    script: str
    unfinished: str
    packages: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A queue with one of its presets; `share` is how many of the jobs it is given, so that slow ones end in time."""

    queue: Queue
    preset: str
    share: float = 1.0

    @property
    def label(self) -> str:
        """The name in tables."""
        return f"{self.queue.name}, {self.preset}"


AYB_JOBS = Queue(
    name="ayb-jobs",
    runtime=Runtime.OURS,
    script="ayb_jobs_worker.py",
    unfinished="SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')",
)
GRAPHILE = Queue(
    name="graphile-worker",
    runtime=Runtime.NODE,
    script="graphile_worker.mjs",
    packages=("graphile-worker",),
    unfinished="SELECT count(*) FROM graphile_worker._private_jobs",
)
# 12.38 asks for a release of a dependency that the registry does not always have.
PG_BOSS = Queue(
    name="pg-boss",
    runtime=Runtime.NODE,
    script="pgboss_worker.mjs",
    packages=("pg-boss@12.35.0",),
    unfinished="SELECT count(*) FROM pgboss.job WHERE name = 'noop' AND state < 'completed'",
)
PGQUEUER = Queue(
    name="PgQueuer",
    runtime=Runtime.PYTHON,
    script="pgqueuer_worker.py",
    packages=("pgqueuer", "asyncpg", "uvloop"),
    unfinished="SELECT count(*) FROM pgqueuer",
)
OBAN = Queue(
    name="Oban for Python",
    runtime=Runtime.PYTHON,
    script="oban_worker.py",
    packages=("oban",),
    python=(3, 12),
    unfinished="SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing', 'scheduled', 'retryable')",
)
AWA = Queue(
    name="Awa",
    runtime=Runtime.PYTHON,
    script="awa_worker.py",
    packages=("awa-pg",),
    unfinished="""
        SELECT (SELECT count(*) FROM awa.ready_entries) - (SELECT count(*) FROM awa.done_entries)
            - (SELECT coalesce(sum(completed_count), 0) FROM awa.receipt_completion_batches)
    """,
)
PROCRASTINATE = Queue(
    name="Procrastinate",
    runtime=Runtime.PYTHON,
    script="procrastinate_worker.py",
    packages=("procrastinate", "psycopg[binary,pool]"),
    unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
)

QUEUES = (AYB_JOBS, GRAPHILE, PG_BOSS, PGQUEUER, AWA, OBAN, PROCRASTINATE)

OURS = Contender(queue=AYB_JOBS, preset="defaults")
OURS_REMOVING = Contender(queue=AYB_JOBS, preset="removed on completion")
TUNED = (
    OURS,
    OURS_REMOVING,
    Contender(queue=GRAPHILE, preset="tuned"),
    Contender(queue=PG_BOSS, preset="tuned"),
    Contender(queue=PGQUEUER, preset="tuned"),
    Contender(queue=AWA, preset="tuned"),
    Contender(queue=OBAN, preset="tuned"),
    Contender(queue=PROCRASTINATE, preset="tuned"),
)
# Procrastinate would take half an hour for a million.
OF_A_MILLION = tuple(contender for contender in TUNED if contender.queue is not PROCRASTINATE)
# pg-boss takes one job each poll at its defaults, so that hardly any are done in a minute.
DEFAULTS = (
    OURS,
    Contender(queue=GRAPHILE, preset="defaults", share=0.1),
    Contender(queue=PG_BOSS, preset="defaults", share=0.0005),
    Contender(queue=PGQUEUER, preset="defaults", share=0.2),
    Contender(queue=AWA, preset="defaults", share=0.05),
    Contender(queue=OBAN, preset="defaults", share=0.15),
    Contender(queue=PROCRASTINATE, preset="defaults", share=0.03),
)
# The one job that pg-boss takes each poll is also all it takes for a notification, so that some would wait for the
# next.
LATENCY = tuple(
    Contender(queue=PG_BOSS, preset="tuned") if contender.queue is PG_BOSS else contender for contender in DEFAULTS
)
# Procrastinate's locks let one job run at a time, and no other number.
ONE_AT_A_TIME = (
    OURS,
    Contender(queue=PG_BOSS, preset="limited"),
    Contender(queue=PGQUEUER, preset="defaults"),
    Contender(queue=PROCRASTINATE, preset="tuned"),
)
LIMITED = tuple(contender for contender in ONE_AT_A_TIME if contender.queue is not PROCRASTINATE)
PINNED = (OURS, Contender(queue=GRAPHILE, preset="tuned"), Contender(queue=PG_BOSS, preset="tuned"))
