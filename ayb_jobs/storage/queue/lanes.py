"""Lanes, of which every statement that leases by order takes jobs.

A lane is one priority of one queue; its floor is the place of the last lease in it. Leasing looks above the floors, so
that it walks neither what it has passed nor dead index entries. What appears below a floor is found by a sweep, a look
from the bottom, which comes now and then (`runtime.jobs.sweep`).
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from psycopg.errors import ProgramLimitExceeded
from psycopg.pq import TransactionStatus

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.array_text import text_array
from ayb_jobs.storage.arrays import numbers_array, plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import one_row

NO_FLOOR = ("-infinity", "00000000-0000-0000-0000-000000000000")
# More than any limit: a lane's share of a batch, and the room of its queue, if nothing is known of them.
ANY_NUMBER = 1_000_000
# The planner knows nothing of the few that an index of their own holds, and would read the whole table.
BY_INDEX = "SET LOCAL enable_seqscan = off"
# The text of instants sorts as they do, in a zone without summer time, which the loops' connections are set to.
BY_TURN = itemgetter(*map(LeasedJob._fields.index, ("priority", "run_at_text", "id")))


class Lane(NamedTuple):
    """One priority of one queue, and the last place in it from which a job was leased.

    `share` is how many jobs of a batch are its, about; more cost more. `room` is how many jobs of its queue may be
    leased, of all priorities together.
    """

    queue: str
    priority: int
    floor_run_at: str = NO_FLOOR[0]
    floor_id: str = NO_FLOOR[1]
    share: int = ANY_NUMBER
    room: int = ANY_NUMBER


INSTANT_AGO = "SELECT (now() - %(seconds)s * interval '1 second')::text"


def instant_ago(conn: Connection, seconds: float) -> str:
    """Return what a floor may be that lies so many seconds back, by the database's clock."""
    return str(one_row(conn.execute(INSTANT_AGO, {"seconds": seconds}))[0])


def lane_values(lanes: Sequence[Lane], types: Sequence[str], limit: int) -> dict[str, Any]:
    """Return lanes, types and the limit as the statements take them."""
    queues, priorities, floor_run_ats, floor_ids, _, _ = zip(*lanes, strict=True) if lanes else [()] * 6
    return {
        "queues": text_array(queues),
        "priorities": numbers_array(priorities),
        "floor_run_ats": text_array(floor_run_ats),
        "floor_ids": plain_array(floor_ids),
        "types": text_array(types),
        "limit": limit,
    }


def turn_values(
    lanes: Sequence[Lane], types: Sequence[str], limit: int, *, by_turn: bool, aside: Sequence[str]
) -> dict[str, Any]:
    """Return what the statements take that lease by turn, with the ids that they pass over."""
    return lane_values(lanes, types, limit) | {
        "shares": numbers_array([min(lane.share, limit) for lane in lanes]),
        "rooms": numbers_array([min(lane.room, limit) for lane in lanes]),
        "by_turn": by_turn,
        "aside": plain_array(aside),
    }


# A few kilobytes of jsonb may be gigabytes as text, which the server refuses to make, and with it the whole answer.
PLAIN_TEXT = "left(payload::text, 16385)"
CAREFUL_TEXT = "left(_ayb_job_text(payload), 16385)"


def with_care(conn: Connection, lease: Callable[[bool], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that leases. `lease` is told whether to take care of payloads of any size.

    Care costs time, and is taken only once the server has refused to make a payload's text, or where it could not be
    taken afterwards.
    """
    # An error ends a transaction under way, as there is one behind a pooler, and nothing can be tried again in it.
    in_transaction = conn.info.transaction_status != TransactionStatus.IDLE
    try:
        return lease(in_transaction)
    except ProgramLimitExceeded:
        if in_transaction:
            raise
        return lease(True)
