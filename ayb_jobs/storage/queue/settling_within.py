"""Complete a job in its handler's own transaction, on a connection that has the search path of users.

The statement is sent while the path is a safe one (see `own`), and puts the handler's path back as it begins: by then
each name and each operator in it has its meaning. Triggers, those that wait for the commit too, find the handler's.
"""

from psycopg import AsyncConnection, Connection
from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow, tuple_row

from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.faults import whole_rows
from ayb_jobs.storage.own import qualified
from ayb_jobs.storage.queue.settling import SETTLE_JOBS, RowsLocked, Settled, read_settled, settled_values

IMPATIENT = "SELECT set_config('lock_timeout', '1s', true)"
SETTLE_WITHIN = SETTLE_JOBS.replace(IMPATIENT, f"{IMPATIENT}, set_config('search_path', %(path)s, true)")


def settle_within(
    conn: Connection[TupleRow], settlement: Settlement, *, worker_id: str, schema: str | None, path: str
) -> Settled:
    """Do what `settle_jobs` does to one attempt that ends now; our tables are in `schema`, and `path` is put back."""
    values = {**settled_values([settlement], worker_id, settlement.ended), "path": path}
    with conn.cursor(row_factory=tuple_row) as cursor:
        try:
            with whole_rows():
                cursor.execute(qualified(SETTLE_WITHIN, schema).encode(), values)
        except LockNotAvailable as error:
            raise RowsLocked from error
        return read_settled([settlement], cursor.fetchone())


async def settle_within_on(
    conn: AsyncConnection[TupleRow], settlement: Settlement, *, worker_id: str, schema: str | None, path: str
) -> Settled:
    """Do what `settle_within` does, on an asynchronous connection."""
    values = {**settled_values([settlement], worker_id, settlement.ended), "path": path}
    async with conn.cursor(row_factory=tuple_row) as cursor:
        try:
            with whole_rows():
                await cursor.execute(qualified(SETTLE_WITHIN, schema).encode(), values)
        except LockNotAvailable as error:
            raise RowsLocked from error
        return read_settled([settlement], await cursor.fetchone())
