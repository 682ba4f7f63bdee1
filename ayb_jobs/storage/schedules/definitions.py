"""Shipped schedules, from packs and the settings: kept up to date, except where an operator has changed them."""

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.errors import Conflict
from ayb_jobs.frozen import frozen
from ayb_jobs.model.payload import decode_payload_exactly, encode_payload
from ayb_jobs.model.schedules.schedule import NewSchedule, defined_values
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.schedules import DEFAULT_MAX_ATTEMPTS, create_schedule, update_schedule


@frozen
class Upserted:
    """Names of shipped schedules: those made, those that followed a changed definition, those left as edited."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    kept: tuple[str, ...]


@frozen
class Drift:
    """How a schedule differs from its definition: by field, what is defined and what the database holds.

    `kind` is `missing` (the next start makes it), `outdated` (the next start updates it), `edited` (an operator's edit,
    which is kept) or `undefined` (it was shipped once, and nothing defines it any more).
    """

    name: str
    kind: Literal["missing", "outdated", "edited", "undefined"]
    fields: dict[str, tuple[Any, Any]]


# AYB's own columns; a row that AYB made with just these values was not edited either.
AYB_FIELDS = ("job_type", "payload", "cron", "timezone", "enabled", "max_attempts")


class _Held(NamedTuple):
    """How a schedule's row stands to a definition."""

    id: str
    is_applied: bool
    is_untouched: bool
    is_made_by_ayb: bool


LOCK_DEFINITION = """
    SELECT
        id::text,
        definition IS NOT DISTINCT FROM %(definition)s::jsonb AS is_applied,
        definition IS NOT DISTINCT FROM _ayb_job_schedule_definition(schedule) AS is_untouched,
        definition IS NULL AND (
            SELECT bool_and(_ayb_job_schedule_definition(schedule) -> field = %(definition)s::jsonb -> field)
            FROM unnest(%(ayb_fields)s::text[]) AS field
        ) AS is_made_by_ayb
    FROM _ayb_job_schedules AS schedule
    WHERE name = %(name)s
    FOR NO KEY UPDATE
"""
STAMP_DEFINITION = """
    UPDATE _ayb_job_schedules AS schedule
    SET definition = _ayb_job_schedule_definition(schedule)
    WHERE id = %(id)s
"""


def upsert_defaults(
    conn: Connection, schedules: Iterable[NewSchedule], *, default_max_attempts: int = DEFAULT_MAX_ATTEMPTS
) -> Upserted:
    """Make shipped schedules that are missing, and bring those up to date that no operator has edited.

    Each in a transaction of its own, so that any number of daemons may do it at once.
    """
    done: dict[str, list[str]] = {"created": [], "updated": [], "kept": [], "current": []}
    for schedule in schedules:
        done[_upsert(conn, schedule, default_max_attempts)].append(schedule.name)
    return Upserted(created=tuple(done["created"]), updated=tuple(done["updated"]), kept=tuple(done["kept"]))


def _upsert(
    conn: Connection, schedule: NewSchedule, default_max_attempts: int
) -> Literal["created", "updated", "kept", "current"]:
    definition = _definition(schedule, default_max_attempts)
    values = {"name": schedule.name, "definition": encode_payload(definition), "ayb_fields": list(AYB_FIELDS)}
    while True:
        with conn.transaction():
            with conn.cursor(row_factory=class_row(_Held)) as cursor:
                found = cursor.execute(LOCK_DEFINITION, values).fetchone()
            if found is not None:
                if not (found.is_untouched or found.is_made_by_ayb):
                    return "kept"
                if found.is_applied:
                    return "current"
                update_schedule(conn, found.id, definition)
                conn.execute(STAMP_DEFINITION, {"id": found.id})
                return "updated"
        try:
            with conn.transaction():
                made = create_schedule(conn, schedule, default_max_attempts=default_max_attempts)
                conn.execute(STAMP_DEFINITION, {"id": made.id})
        except Conflict:
            continue  # another daemon has just made it
        return "created"


class _Stored(NamedTuple):
    """A schedule's row as a definition, in JSON."""

    name: str
    current: str
    payload: str | None
    is_shipped: bool
    is_untouched: bool


READ_DEFINITIONS = """
    SELECT name, _ayb_job_schedule_definition(schedule)::text AS current, payload::text AS payload,
        definition IS NOT NULL AS is_shipped,
        definition IS NOT DISTINCT FROM _ayb_job_schedule_definition(schedule) AS is_untouched
    FROM _ayb_job_schedules AS schedule
    ORDER BY name
"""


def list_drift(
    conn: Connection, schedules: Iterable[NewSchedule], *, default_max_attempts: int = DEFAULT_MAX_ATTEMPTS
) -> list[Drift]:
    """Return the shipped schedules whose rows are not as defined, by name."""
    with conn.cursor(row_factory=class_row(_Stored)) as cursor:
        stored = {row.name: row for row in cursor.execute(READ_DEFINITIONS)}
    defined = {schedule.name: _definition(schedule, default_max_attempts) for schedule in schedules}
    drifts: list[Drift] = []
    for name, definition in defined.items():
        if name not in stored:
            drifts.append(Drift(name=name, kind="missing", fields={}))
            continue
        current = json.loads(stored[name].current)
        current["payload"] = decode_payload_exactly(stored[name].payload)
        different = {key: (value, current[key]) for key, value in definition.items() if current[key] != value}
        if different:
            drifts.append(
                Drift(name=name, kind="outdated" if stored[name].is_untouched else "edited", fields=different)
            )
    drifts += [
        Drift(name=name, kind="undefined", fields={})
        for name, row in stored.items()
        if row.is_shipped and name not in defined
    ]
    return sorted(drifts, key=lambda drift: drift.name)


def _definition(schedule: NewSchedule, default_max_attempts: int) -> dict[str, Any]:
    """Return what `_ayb_job_schedule_definition` makes of the schedule's row."""
    return {
        **defined_values(schedule),
        "payload": decode_payload_exactly(schedule.payload_text),
        "max_attempts": schedule.max_attempts or default_max_attempts,
    }
