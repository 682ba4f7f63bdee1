"""What the rates of keys have spent: removed once it has long been won back."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

FIND_OLD_LIMIT_KEYS = """
    SELECT limit_name::text, limit_key::text
    FROM _ayb_job_limit_keys
    WHERE tat < now() - %(keep)s::interval
        AND (%(limit_name)s::text IS NULL OR (limit_name, limit_key) > (%(limit_name)s::text, %(limit_key)s::text))
    ORDER BY limit_name, limit_key
    LIMIT %(limit)s
"""


class LimitKey(NamedTuple):
    """One key of one limit."""

    limit_name: str
    limit_key: str


def find_old_limit_keys(
    conn: Connection, *, keep: timedelta, after: LimitKey | None = None, limit: int = 1000
) -> list[LimitKey]:
    """Return up to `limit` keys whose rate has allowed the next start for longer than `keep`, behind `after`."""
    values = {"keep": keep, "limit": limit, "limit_name": None, "limit_key": None} | (after._asdict() if after else {})
    return [LimitKey(*row) for row in conn.execute(FIND_OLD_LIMIT_KEYS, values, prepare=False)]


# A rate may have been spent since the key was found.
DELETE_LIMIT_KEYS = """
    WITH old AS MATERIALIZED (
        SELECT spent.limit_name, spent.limit_key
        FROM unnest(%(names)s::text[], %(keys)s::text[]) AS old (limit_name, limit_key)
            JOIN _ayb_job_limit_keys AS spent
                ON spent.limit_name = old.limit_name AND spent.limit_key = old.limit_key
        WHERE spent.tat < now()
        FOR UPDATE OF spent SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_limit_keys
        WHERE (limit_name, limit_key) IN (SELECT limit_name, limit_key FROM old)
        RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_limit_keys(conn: Connection, keys: Sequence[LimitKey]) -> Deleted:
    """Remove these keys, but for those that a lease under their limit holds or has just spent."""
    values = {"names": [key.limit_name for key in keys], "keys": [key.limit_key for key in keys]}
    return Deleted(*one_row(conn.execute(DELETE_LIMIT_KEYS, values, prepare=False)))
