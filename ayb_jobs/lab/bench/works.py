"""All works by name, in the order in which they are measured."""

from collections.abc import Callable, Iterator, Mapping

from ayb_jobs.lab.bench import (
    cleanup,
    daemons,
    deep,
    drain,
    enqueue,
    idle,
    kinds,
    latency,
    pinned,
    queues,
    reads,
    retention,
    schedules,
    waiting,
    watched,
)
from ayb_jobs.lab.bench.figures import Figure
from ayb_jobs.lab.bench.scratch import Bench

WORKS: Mapping[str, Callable[[Bench], Iterator[Figure]]] = {
    "drain": drain.measure,
    "waiting": waiting.measure,
    "enqueue": enqueue.measure,
    "latency": latency.measure,
    "deep": deep.measure,
    "reads": reads.measure,
    "pinned": pinned.measure,
    "watched": watched.measure,
    "daemons": daemons.measure,
    "queues": queues.measure,
    "idle": idle.measure,
    "cleanup": cleanup.measure,
    "retention": retention.measure,
    "schedules": schedules.measure,
    "kinds": kinds.measure,
}
