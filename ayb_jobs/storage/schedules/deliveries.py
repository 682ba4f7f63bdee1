"""The delivery of alerts: each address is told each alert until it takes it, however many daemons deliver."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row, dict_row

from ayb_jobs.frozen import frozen
from ayb_jobs.model.lifecycle import storable_error
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.rows import one_row

MOST_ATTEMPTS = 12
BATCH = 100


@frozen
class Alert:
    """What is told. `kind` is `overdue`, `recovered` or `failed` (a scheduled job failed for good)."""

    id: str
    kind: str
    schedule_id: str
    schedule: str
    ping_url: str | None
    message: str
    at: datetime
    attempt: int


# An address is told of what was noted before its daemon started, but not of old stories.
FIND_UNADDRESSED = """
    SELECT id::text
    FROM _ayb_job_alerts AS alert
    WHERE at > now() - interval '1 hour' AND id <> ALL (%(aside)s::uuid[])
        AND NOT EXISTS (
            SELECT FROM _ayb_job_alert_deliveries AS delivery WHERE alert_id = alert.id AND target = %(target)s
        )
    LIMIT %(limit)s
"""


def find_unaddressed(conn: Connection, target: str, *, aside: Sequence[str] = (), limit: int = BATCH) -> list[str]:
    """Return up to `limit` alerts of the last hour that `target` is not to be told yet, but for those `aside`."""
    values = {"target": target_id(target), "aside": list(aside), "limit": limit}
    return [id_ for (id_,) in conn.execute(FIND_UNADDRESSED, values)]


ADDRESS_ALERTS = """
    INSERT INTO _ayb_job_alert_deliveries (alert_id, target)
    SELECT id, %(target)s FROM _ayb_job_alerts WHERE id = ANY (%(ids)s::uuid[])
    ON CONFLICT DO NOTHING
"""
# A statement of its own, which sees what the one above wrote, or what another daemon did.
FIND_REFUSED = """
    SELECT id::text
    FROM _ayb_job_alerts AS alert
    WHERE id = ANY (%(ids)s::uuid[])
        AND NOT EXISTS (
            SELECT FROM _ayb_job_alert_deliveries AS delivery WHERE alert_id = alert.id AND target = %(target)s
        )
"""


def address_alerts(conn: Connection, target: str, alert_ids: Sequence[str]) -> list[str]:
    """Have `target` told of alerts, in the transaction that `conn` is in.

    Returns the ids of those of which a trigger of the application's keeps it from being told.
    """
    values = {"target": target_id(target), "ids": list(alert_ids)}
    conn.execute(ADDRESS_ALERTS, values)
    return [id_ for (id_,) in conn.execute(FIND_REFUSED, values)]


FIND_WAITING = """
    SELECT asked.target
    FROM unnest(%(targets)s::text[]) AS asked (target)
    WHERE EXISTS (
            SELECT FROM _ayb_job_alert_deliveries AS delivery
            WHERE delivered_at IS NULL AND target = asked.target AND try_at <= now() AND attempts < %(most)s
        )
        OR EXISTS (
            SELECT FROM _ayb_job_alerts AS alert
            WHERE at > now() - interval '1 hour' AND NOT EXISTS (
                SELECT FROM _ayb_job_alert_deliveries AS delivery
                WHERE alert_id = alert.id AND target = asked.target
            )
        )
"""


def find_waiting(conn: Connection, targets: Sequence[str]) -> list[str]:
    """Return those of the targets that are to be told something now."""
    by_id = {target_id(target): target for target in targets}
    rows = conn.execute(FIND_WAITING, {"targets": list(by_id), "most": MOST_ATTEMPTS})
    return [by_id[id_] for (id_,) in rows]


FIND_DELIVERIES = """
    SELECT alert_id::text
    FROM _ayb_job_alert_deliveries
    WHERE delivered_at IS NULL AND target = %(target)s AND try_at <= now() AND attempts < %(most)s
        AND alert_id <> ALL (%(aside)s::uuid[])
    ORDER BY try_at
    LIMIT %(limit)s
"""


def find_deliveries(conn: Connection, target: str, *, aside: Sequence[str] = (), limit: int = BATCH) -> list[str]:
    """Return up to `limit` alerts that `target` is to be told now, those first that wait longest."""
    values = {"target": target_id(target), "most": MOST_ATTEMPTS, "aside": list(aside), "limit": limit}
    return [id_ for (id_,) in conn.execute(FIND_DELIVERIES, values)]


# The time of the next attempt is set before the delivery is tried: a daemon that dies in between loses nothing.
TAKE_DELIVERY = """
    WITH due AS MATERIALIZED (
        SELECT alert_id, target, attempts
        FROM _ayb_job_alert_deliveries
        WHERE alert_id = %(alert_id)s AND target = %(target)s AND delivered_at IS NULL AND try_at <= now()
            AND attempts < %(most)s
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE _ayb_job_alert_deliveries AS delivery
        SET attempts = delivery.attempts + 1,
            try_at = now() + least(3600, 15 * 2 ^ greatest(delivery.attempts, 0)) * interval '1 second'
        FROM due
        WHERE delivery.alert_id = due.alert_id AND delivery.target = due.target
        RETURNING delivery.alert_id, delivery.attempts,
            delivery.attempts > due.attempts AND delivery.try_at > now() AND delivery.delivered_at IS NULL AS is_taken
    )
    SELECT coalesce(taken.is_taken, false) AS is_taken, alert.id::text, alert.kind, alert.schedule_id::text,
        schedule.name AS schedule, schedule.ping_url, left(alert.message, 4000) AS message, alert.at,
        taken.attempts AS attempt
    FROM due
        JOIN _ayb_job_alerts AS alert ON alert.id = due.alert_id
        JOIN _ayb_job_schedules AS schedule ON schedule.id = alert.schedule_id
        LEFT JOIN taken ON taken.alert_id = due.alert_id
"""


def take_delivery(conn: Connection, alert_id: str, target: str) -> Alert | None:
    """Return an alert that `target` is to be told now, or None if somebody else tells it or has told it.

    Each is tried 12 times, with pauses that double from 15 s up to an hour. Raises `RowUnchanged` if a trigger of the
    application's keeps the attempt from being counted, which would have it told without end.
    """
    values = {"alert_id": alert_id, "target": target_id(target), "most": MOST_ATTEMPTS}
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(TAKE_DELIVERY, values).fetchone()
    if row is None:
        return None
    if not row.pop("is_taken"):
        raise RowUnchanged
    return Alert(**row)


SETTLE_DELIVERY = """
    WITH seen AS (
        SELECT FROM _ayb_job_alert_deliveries WHERE alert_id = %(alert_id)s AND target = %(target)s
    ), settled AS (
        UPDATE _ayb_job_alert_deliveries
        SET delivered_at = CASE WHEN %(error)s::text IS NULL THEN now() END, last_error = %(error)s::text
        WHERE alert_id = %(alert_id)s AND target = %(target)s
        RETURNING (delivered_at IS NULL) = (%(error)s::text IS NOT NULL) AS is_settled
    )
    SELECT EXISTS (SELECT FROM seen) AND NOT EXISTS (SELECT FROM settled WHERE is_settled)
"""


def settle_delivery(conn: Connection, alert_id: str, target: str, error: str | None) -> None:
    """Record that an alert was delivered, or why it was not; raise `RowUnchanged` if a trigger does not let us."""
    text = None if error is None else storable_error(error)
    values = {"alert_id": alert_id, "target": target_id(target), "error": text}
    if one_row(conn.execute(SETTLE_DELIVERY, values))[0]:
        raise RowUnchanged


def target_id(target: str) -> str:
    """Return what an address is called in the database, where a secret in it must not be."""
    return hashlib.sha256(target.encode()).hexdigest()


class Undelivered(NamedTuple):
    """How many alerts their addresses did not take, and what went wrong with the latest of them."""

    alerts: int
    last_error: str | None


# One that failed once may be late for a moment's reason.
COUNT_UNDELIVERED = """
    SELECT count(DISTINCT failed.alert_id) AS alerts, (array_agg(left(failed.last_error, 500) ORDER BY failed.at DESC))[1] AS last_error
    FROM (
        SELECT delivery.alert_id, delivery.last_error, alert.at
        FROM _ayb_job_alert_deliveries AS delivery JOIN _ayb_job_alerts AS alert ON alert.id = delivery.alert_id
        WHERE delivery.delivered_at IS NULL AND delivery.attempts > 1 AND delivery.last_error IS NOT NULL
            AND alert.at > now() - interval '1 day'
        LIMIT 10000
    ) AS failed
"""


def count_undelivered(conn: Connection) -> Undelivered:
    """Count the alerts of the last day that were tried more than once in vain, up to 10,000."""
    with conn.cursor(row_factory=class_row(Undelivered)) as cursor:
        return one_row(cursor.execute(COUNT_UNDELIVERED))
