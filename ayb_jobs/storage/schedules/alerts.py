"""Alerts about schedules, noted once however many daemons watch."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.overdue import Overdue

BATCH = 100


class Noted(NamedTuple):
    """What one look found: schedules that have become overdue, and names of those that are no longer.

    `unchanged` are the ids of schedules that became overdue, and whose rows a trigger keeps as they are.
    """

    begun: Sequence[Overdue] = ()
    ended: Sequence[str] = ()
    unchanged: Sequence[str] = ()


class Among(NamedTuple):
    """Which rows a look is about: all but those whose ids are `aside`, or of those the ones in `only`."""

    aside: Sequence[str] = ()
    only: Sequence[str] | None = None


ALL = Among()

# The row locks let one daemon alone note each change.
LOCK_NEWLY_OVERDUE = """
    SELECT now() AS at, schedule_id::text, overdue.name, reason, since, last_success_at, overdue.next_run_at,
        overdue.expect_success_within_s, left(overdue.last_error, 2000) AS last_error,
        (
            SELECT pause.kind || ' ' || pause.name
            FROM _ayb_job_pauses AS pause
            WHERE (pause.until IS NULL OR pause.until > now())
                AND (pause.kind = 'queue' AND pause.name = schedule.queue
                    OR pause.kind = 'type' AND pause.name = schedule.job_type)
            LIMIT 1
        ) AS paused
    FROM _ayb_job_schedules AS schedule JOIN _ayb_job_overdue AS overdue ON overdue.schedule_id = schedule.id
    WHERE schedule.overdue_since IS NULL AND schedule.id <> ALL (%(aside)s::uuid[])
        AND (%(only)s::uuid[] IS NULL OR schedule.id = ANY (%(only)s::uuid[]))
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF schedule SKIP LOCKED
"""
NOTE_OVERDUE = """
    WITH found AS (
        SELECT id, since, left(message, 4000) AS message
        FROM unnest(%(ids)s::uuid[], %(sinces)s::timestamptz[], %(messages)s::text[]) AS found (id, since, message)
    ), marked AS (
        UPDATE _ayb_job_schedules AS schedule
        SET overdue_since = found.since
        FROM found
        WHERE schedule.id = found.id
        RETURNING schedule.id, overdue_since, message
    ), noted AS (
        INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message)
        SELECT 'overdue', id, 'noted at ' || now(), message FROM marked WHERE overdue_since IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    SELECT id::text FROM marked WHERE overdue_since IS NOT NULL
"""


def note_overdue(conn: Connection, among: Among = ALL, *, limit: int = BATCH) -> Noted:
    """Note schedules that have become overdue, in the transaction that `conn` is in."""
    with conn.cursor(row_factory=class_row(Overdue)) as cursor:
        begun = cursor.execute(LOCK_NEWLY_OVERDUE, {**_listed(among), "limit": limit}).fetchall()
    if not begun:
        return Noted()
    values = {
        "ids": [each.schedule_id for each in begun],
        "sinces": [each.since for each in begun],
        "messages": [each.words for each in begun],
    }
    marked = {id_ for (id_,) in conn.execute(NOTE_OVERDUE, values)}
    unchanged = [each.schedule_id for each in begun if each.schedule_id not in marked]
    return Noted(begun=[each for each in begun if each.schedule_id in marked], unchanged=unchanged)


FIND_NEWLY_OVERDUE = """
    SELECT schedule.id::text
    FROM _ayb_job_schedules AS schedule JOIN _ayb_job_overdue AS overdue ON overdue.schedule_id = schedule.id
    WHERE schedule.overdue_since IS NULL AND schedule.id <> ALL (%(aside)s::uuid[])
    LIMIT %(limit)s
"""


def find_newly_overdue(conn: Connection, aside: Sequence[str], *, limit: int = BATCH) -> list[str]:
    """Return the ids of schedules that `note_overdue` would note."""
    return [id_ for (id_,) in conn.execute(FIND_NEWLY_OVERDUE, {"aside": list(aside), "limit": limit})]


NOTE_RECOVERED = """
    WITH recovered AS (
        UPDATE _ayb_job_schedules
        SET overdue_since = NULL
        WHERE id IN (
            SELECT id
            FROM _ayb_job_schedules AS schedule
            WHERE overdue_since IS NOT NULL AND id <> ALL (%(aside)s::uuid[])
                AND (%(only)s::uuid[] IS NULL OR id = ANY (%(only)s::uuid[]))
                AND NOT EXISTS (SELECT FROM _ayb_job_overdue AS overdue WHERE overdue.schedule_id = schedule.id)
            FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING id, name, overdue_since
    ), noted AS (
        INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message)
        SELECT 'recovered', id, 'at ' || now(), 'it is no longer overdue' FROM recovered WHERE overdue_since IS NULL
        ON CONFLICT DO NOTHING
    )
    SELECT name FROM recovered WHERE overdue_since IS NULL
"""


def note_recovered(conn: Connection, among: Among = ALL) -> Noted:
    """Note schedules that are no longer overdue, in the transaction that `conn` is in."""
    return Noted(ended=[name for (name,) in conn.execute(NOTE_RECOVERED, _listed(among))])


FIND_RECOVERED = """
    SELECT id::text
    FROM _ayb_job_schedules AS schedule
    WHERE overdue_since IS NOT NULL AND id <> ALL (%(aside)s::uuid[])
        AND NOT EXISTS (SELECT FROM _ayb_job_overdue AS overdue WHERE overdue.schedule_id = schedule.id)
    LIMIT %(limit)s
"""


def find_recovered(conn: Connection, aside: Sequence[str], *, limit: int = BATCH) -> list[str]:
    """Return the ids of schedules that `note_recovered` would note."""
    return [id_ for (id_,) in conn.execute(FIND_RECOVERED, {"aside": list(aside), "limit": limit})]


# `about` tells one failure from the next after a retry by hand.
NOTE_FAILURES = """
    INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message)
    SELECT 'failed', schedule_id, id || ' ' || extract(epoch FROM updated_at),
        'job ' || id || ' failed after ' || attempts || ' attempts: ' || left(coalesce(last_error, ''), 2000)
    FROM _ayb_jobs
    WHERE state = 'failed' AND schedule_id IS NOT NULL AND updated_at > now() - interval '1 hour'
        AND schedule_id <> ALL (%(aside)s::uuid[])
        AND (%(only)s::uuid[] IS NULL OR schedule_id = ANY (%(only)s::uuid[]))
    ON CONFLICT DO NOTHING
"""


def note_failures(conn: Connection, among: Among = ALL) -> Noted:
    """Note jobs that failed for good within the last hour, by their schedules; each is noted once."""
    conn.execute(NOTE_FAILURES, _listed(among))
    return Noted()


FIND_FAILING = """
    SELECT DISTINCT schedule_id::text
    FROM _ayb_jobs
    WHERE state = 'failed' AND schedule_id IS NOT NULL AND updated_at > now() - interval '1 hour'
        AND schedule_id <> ALL (%(aside)s::uuid[])
"""


def find_failing(conn: Connection, aside: Sequence[str]) -> list[str]:
    """Return the ids of the schedules whose jobs `note_failures` would note."""
    return [id_ for (id_,) in conn.execute(FIND_FAILING, {"aside": list(aside)})]


def _listed(among: Among) -> dict[str, list[str] | None]:
    return {"aside": list(among.aside), "only": None if among.only is None else list(among.only)}


class PingTarget(NamedTuple):
    """A schedule as pings need it."""

    name: str
    ping_url: str | None


PING_TARGETS = "SELECT id::text, name, ping_url FROM _ayb_job_schedules WHERE id = ANY(%(ids)s::uuid[])"


def ping_targets(conn: Connection, schedule_ids: Sequence[str]) -> dict[str, PingTarget]:
    """Return the schedules that are there, by id."""
    rows = conn.execute(PING_TARGETS, {"ids": list(schedule_ids)})
    return {id_: PingTarget(name, ping_url) for id_, name, ping_url in rows}
