"""What others say about the speed of their own queues, and where they say it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the authors of a queue say, on which machine and under which conditions, and where."""

    queue: str
    said: str
    where: str
    source: str


# River is not measured beside the others: it needs a Go from 1.21 on. Oban's figure is that of the one in Elixir.
WORDS = (
    Words(
        queue="graphile-worker",
        said="about 183,000 jobs a second",
        where="24 jobs at once, a local queue of 500, in optimal conditions",
        source="https://worker.graphile.org/docs/performance",
    ),
    Words(
        queue="pg-boss",
        said="no figure",
        where="its README",
        source="https://github.com/timgit/pg-boss",
    ),
    Words(
        queue="PgQueuer",
        said="6,400 to 18,000 jobs a second",
        where="by concurrency and driver; jobs are enqueued meanwhile",
        source="https://github.com/janbjorge/pgqueuer/blob/main/docs/development/benchmark.md",
    ),
    Words(
        queue="Awa",
        said="about 5,000 jobs a second in Python, 8,000 in Rust",
        where="sustained, on a laptop",
        source="https://github.com/hardbyte/awa",
    ),
    Words(
        queue="Oban, in Elixir",
        said="a million jobs a minute, 16,667 a second",
        where="one queue on one node",
        source="https://oban.pro/articles/one-million-jobs-a-minute-with-oban",
    ),
    Words(
        queue="River, in Go",
        said="about 46,000 jobs a second",
        where="2,000 workers, a million jobs, a laptop of 8 cores",
        source="https://riverqueue.com/docs/benchmarks",
    ),
)
