"""The state of the queue as figures, by the names that `metrics.CATALOGUE` explains."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ayb_jobs.metrics import MOST_QUEUES, OTHER, Labels
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import count_limited
from ayb_jobs.storage.fleet.pauses import count_pauses
from ayb_jobs.storage.queue.gauges import Gauges, measure
from ayb_jobs.storage.queue.lateness import find_longest
from ayb_jobs.storage.schedules.overdue import count_overdue

Figures = Mapping[str, Mapping[Labels, float]]


def gauges_of_state(conn: Connection, *, queues: Sequence[str], label: Callable[[str], str]) -> Figures:
    """Measure the queue; `queues` are named first, and `label` returns a queue's label."""
    gauges = measure(conn, queues=queues, most_queues=MOST_QUEUES)
    pauses, longest = count_pauses(conn), find_longest(conn)
    return {
        "ayb_jobs_queue_depth": _depths(gauges, label),
        "ayb_jobs_queue_depth_cut": {(): int(gauges.cut)},
        "ayb_jobs_running": {(): gauges.running},
        "ayb_jobs_oldest_ready_age_seconds": {(): gauges.oldest_ready_s},
        "ayb_jobs_oldest_startable_age_seconds": {(): longest.waited_s if longest else 0.0},
        "ayb_jobs_oldest_expired_lease_age_seconds": {(): gauges.oldest_expired_lease_s},
        "ayb_jobs_paused": {(kind,): paused.pauses for kind, paused in pauses.items()},
        "ayb_jobs_longest_pause_seconds": {(kind,): paused.longest_s for kind, paused in pauses.items()},
        **_limits(conn),
        "ayb_jobs_batches_unfinished": {(): gauges.batches},
        "ayb_jobs_workers": {(): gauges.workers},
        "ayb_jobs_schedules_overdue": {(): count_overdue(conn)},
    }


def _limits(conn: Connection) -> Figures:
    counts = count_limited(conn, most=MOST_QUEUES)
    return {
        "ayb_jobs_limit_waiting": {(name,): limit.waiting for name, limit in counts.items()},
        "ayb_jobs_limit_running": {(name,): limit.running for name, limit in counts.items()},
        "ayb_jobs_limit_tokens": {(name,): limit.tokens for name, limit in counts.items() if limit.tokens is not None},
    }


def _depths(gauges: Gauges, label: Callable[[str], str]) -> Mapping[Labels, float]:
    depths: Counter[Labels] = Counter()
    for queue, count in gauges.queued.items():
        depths[(OTHER if queue is None else label(queue),)] += count
    return depths
