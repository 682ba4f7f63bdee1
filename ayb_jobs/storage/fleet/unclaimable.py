"""Jobs that are due and that nobody here may lease."""

from collections.abc import Sequence

from ayb_jobs.storage.database import Connection

# Jobs that nobody leases gather at the front of their queue, so a look at its front finds them; how deep the queue is
# behind them must not matter.
LOOK = 10_000

COUNT_UNCLAIMABLE = """
    SELECT type, count(*)
    FROM (
        SELECT type, queue
        FROM _ayb_jobs
        WHERE state = 'queued' AND run_at <= now()
        ORDER BY queue, priority, run_at, id
        LIMIT %(look)s
    ) AS front
    WHERE NOT (type = ANY (%(types)s::text[]) AND queue = ANY (%(queues)s::text[]))
    GROUP BY type
    ORDER BY count(*) DESC
    LIMIT 50
"""


def count_unclaimable(conn: Connection, *, types: Sequence[str], queues: Sequence[str]) -> dict[str, int]:
    """Count, by type, the due jobs of other types or queues than these, among the 10,000 at the front."""
    values = {"types": list(types), "queues": list(queues), "look": LOOK}
    return {row[0]: row[1] for row in conn.execute(COUNT_UNCLAIMABLE, values).fetchall()}
