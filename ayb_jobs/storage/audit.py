"""What operators changed by hand, written in the transaction that changes it."""

from typing import Literal, LiteralString

from psycopg.rows import class_row

from ayb_jobs.model.actions import Deed
from ayb_jobs.model.checked import checked_id
from ayb_jobs.storage.database import Connection

Kind = Literal["job", "schedule"]


# Rows as the database sees them: what it can hold and Python cannot decode is recorded all the same. A job's payload is
# never changed by hand and may be personal, so that it is not copied. A ping address is a secret. The lock
# keeps `before` true until the change.
SNAPSHOTS: dict[Kind, LiteralString] = {
    "job": """
        SELECT (to_jsonb(row) - 'payload' || jsonb_build_object('last_error', left(row.last_error, 17000)))::text
        FROM _ayb_jobs AS row
        WHERE id = %(id)s
        FOR UPDATE
    """,
    "schedule": """
        SELECT (to_jsonb(row) - 'ping_url' - 'definition')::text
        FROM _ayb_job_schedules AS row
        WHERE id = %(id)s
        FOR UPDATE
    """,
}


def snapshot(conn: Connection, kind: Kind, target: str) -> str | None:
    """Return a job's or a schedule's row as JSON text, or None where there is none, and lock it.

    Raises `InvalidInput` where the id is no UUID.
    """
    row = conn.execute(SNAPSHOTS[kind], {"id": checked_id(target)}).fetchone()
    return row[0] if row else None


RECORD_DEED = """
    INSERT INTO _ayb_job_audit (actor, action, target, before, after)
    VALUES (%(actor)s, %(action)s, %(target)s, %(before)s::jsonb, %(after)s::jsonb)
"""


def record_deed(
    conn: Connection,
    *,
    actor: str,
    action: str,
    target: str | None = None,
    before_text: str | None = None,
    after_text: str | None = None,
) -> None:
    """Record one change by hand, in the transaction that `conn` is in. `action` is such as `job.retry`."""
    values = {"actor": actor, "action": action, "target": target, "before": before_text, "after": after_text}
    conn.execute(RECORD_DEED, values)


LIST_DEEDS = """
    SELECT id, at, actor, action, target,
        CASE WHEN pg_column_size(before) > 65536 THEN '"cut: too large for a list"' ELSE before::text END AS before_text,
        CASE WHEN pg_column_size(after) > 65536 THEN '"cut: too large for a list"' ELSE after::text END AS after_text
    FROM _ayb_job_audit
    WHERE (%(target)s::text IS NULL OR target = %(target)s::text)
        AND (%(before)s::bigint IS NULL OR id < %(before)s::bigint)
    ORDER BY id DESC
    LIMIT %(limit)s
"""


def list_deeds(
    conn: Connection, *, target: str | None = None, before: int | None = None, limit: int = 50
) -> list[Deed]:
    """Return up to `limit` changes, the newest first; `before` continues after an earlier page's last id."""
    values = {"target": target, "before": before, "limit": limit}
    with conn.cursor(row_factory=class_row(Deed)) as cursor:
        return cursor.execute(LIST_DEEDS, values, prepare=False).fetchall()
