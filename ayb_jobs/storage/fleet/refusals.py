"""What live daemons tell that the database refuses, and which jobs it keeps running."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from psycopg.rows import class_row

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.daemons import ENDINGS, MOST_ASIDE
from ayb_jobs.model.refusals import EndedJob, Refusals
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.lifelines import HeardDaemon, look_at_fleet

FIND_ENDED = """
    SELECT id::text, type::text, queue::text, worker_id::text, limited_by::text, limited_key::text
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND state = 'running'
    ORDER BY id
"""


def find_refusals(conn: Connection) -> Refusals:
    """Return what live daemons tell that the database refuses, with the jobs that only seem to run for it."""
    told = told_by(look_at_fleet(conn))
    if not (ids := list(_ids(told.tables.get(ENDINGS, ())))):
        return told
    with conn.cursor(row_factory=class_row(EndedJob)) as cursor:
        return told._replace(ended=cursor.execute(FIND_ENDED, {"ids": plain_array(ids)}, prepare=False).fetchall())


def told_by(fleet: Iterable[HeardDaemon]) -> Refusals:
    """Return the rows that daemons tell of, by table."""
    tables: dict[str, dict[str, str]] = {}
    cut = set()
    for daemon in fleet:
        for table, rows in daemon.aside.items():
            tables.setdefault(table, {}).update(rows)
            if len(rows) >= MOST_ASIDE:
                cut.add(table)
    return Refusals({table: rows for table, rows in tables.items() if rows}, cut)


def _ids(texts: Iterable[str]) -> Iterator[str]:
    """Yield those texts that are ids; plain SQL may write anything."""
    for text in texts:
        with suppress(InvalidInput):
            yield checked_id(text)
