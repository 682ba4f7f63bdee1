"""What operators changed by hand, written in the transaction that changes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from ayb_jobs.model.job import checked_id
from ayb_jobs.storage.database import Connection

Kind = Literal["job", "schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One change by hand. `before` and `after` are JSON as stored, None where there was nothing."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str | None
    before_text: str | None
    after_text: str | None


# Rows as the database sees them: what it can hold and Python cannot decode is recorded all the same. A job's payload is
# never changed by hand and may be personal, so that it is not copied. A ping address is a secret. The lock keeps `before` true until the change.
SNAPSHOTS: dict[Kind, LiteralString] = {
    "job": "SELECT (to_jsonb(row) - 'payload')::text FROM _ayb_jobs AS row WHERE id = %(id)s FOR UPDATE",
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


@contextmanager
def recorded(conn: Connection, kind: Kind, target: str, *, actor: str, action: str) -> Iterator[None]:
    """Record what the block does to one job or schedule; nothing where the block raises."""
    before_text = snapshot(conn, kind, target)
    yield
    after_text = snapshot(conn, kind, target)
    record_deed(conn, actor=actor, action=action, target=target, before_text=before_text, after_text=after_text)


LIST_DEEDS = """
    SELECT id, at, actor, action, target, before::text, after::text
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
    return [
        Deed(id=id_, at=at, actor=actor, action=action, target=target_, before_text=before_text, after_text=after_text)
        for id_, at, actor, action, target_, before_text, after_text in conn.execute(LIST_DEEDS, values, prepare=False)
    ]
