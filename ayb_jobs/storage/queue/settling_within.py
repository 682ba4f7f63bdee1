"""Complete a job in its handler's own transaction, on a connection that has the search path of users.

The statement is sent while the path is a safe one (see `own`), and puts the handler's path back as it begins: by then
each name and each operator in it has its meaning. Triggers, those that wait for the commit too, find the handler's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import AsyncConnection, Connection
from psycopg.errors import LockNotAvailable, SerializationFailure
from psycopg.rows import TupleRow, tuple_row

from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.faults import whole_rows
from ayb_jobs.storage.own import qualified
from ayb_jobs.storage.queue.settling import SETTLE_JOBS, RowsLocked, Settled, read_settled, settled_values

IMPATIENT = "SELECT set_config('lock_timeout', '1s', true)"
SETTLE_WITHIN = SETTLE_JOBS.replace(IMPATIENT, f"{IMPATIENT}, set_config('search_path', %(path)s, true)")
# The lease keeper and `ctx.progress()` change the job's row while the block runs.
ROW_CHANGED = (
    "ctx.transaction() completes the job at its end, and the job's row was changed since the block began, as each time"
    " that its lease is extended. A transaction at repeatable read or serializable cannot go on from that; the daemon's"
    " role should read what is committed: ALTER ROLE … SET default_transaction_isolation = 'read committed'"
)


@contextmanager
def _worded() -> Iterator[None]:
    """Raise `RowsLocked` for a lock that was not to be had, and say of an isolation that is too high what to do."""
    try:
        yield
    except LockNotAvailable as error:
        raise RowsLocked from error
    except SerializationFailure as error:
        error.add_note(ROW_CHANGED)
        raise


def settle_within(
    conn: Connection[TupleRow], settlement: Settlement, *, worker_id: str, schema: str | None, path: str
) -> Settled:
    """Do what `settle_jobs` does to one attempt that ends now; our tables are in `schema`, and `path` is put back."""
    values = {**settled_values([settlement], worker_id, settlement.ended), "path": path}
    with conn.cursor(row_factory=tuple_row) as cursor:
        with whole_rows(), _worded():
            cursor.execute(qualified(SETTLE_WITHIN, schema).encode(), values)
        return read_settled([settlement], cursor.fetchone())


async def settle_within_on(
    conn: AsyncConnection[TupleRow], settlement: Settlement, *, worker_id: str, schema: str | None, path: str
) -> Settled:
    """Do what `settle_within` does, on an asynchronous connection."""
    values = {**settled_values([settlement], worker_id, settlement.ended), "path": path}
    async with conn.cursor(row_factory=tuple_row) as cursor:
        with whole_rows(), _worded():
            await cursor.execute(qualified(SETTLE_WITHIN, schema).encode(), values)
        return read_settled([settlement], await cursor.fetchone())
