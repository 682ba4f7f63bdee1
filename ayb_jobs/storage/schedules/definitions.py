"""Shipped schedules, from packs and the settings: kept up to date, except where an operator has changed them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, LiteralString, NamedTuple

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
    name: str
    is_applied: bool
    is_untouched: bool
    is_made_by_ayb: bool

    @property
    def stays(self) -> Literal["kept", "current"] | None:
        """Why the row is left as it is; None if it is to follow the definition."""
        if not (self.is_untouched or self.is_made_by_ayb):
            return "kept"
        return "current" if self.is_applied else None


FIND_DEFINED = """
    SELECT
        schedule.id::text,
        schedule.name,
        schedule.definition IS NOT DISTINCT FROM asked.definition::jsonb AS is_applied,
        schedule.definition IS NOT DISTINCT FROM _ayb_job_schedule_definition(schedule) AS is_untouched,
        schedule.definition IS NULL AND (
            SELECT bool_and(_ayb_job_schedule_definition(schedule) -> field = asked.definition::jsonb -> field)
            FROM unnest(%(ayb_fields)s::text[]) AS field
        ) AS is_made_by_ayb
    FROM unnest(%(names)s::text[], %(definitions)s::text[]) AS asked (name, definition)
    JOIN _ayb_job_schedules AS schedule ON schedule.name = asked.name
"""
LOCK_DEFINED = f"{FIND_DEFINED} FOR NO KEY UPDATE OF schedule"
STAMP_DEFINITION = """
    UPDATE _ayb_job_schedules AS schedule
    SET definition = _ayb_job_schedule_definition(schedule)
    WHERE id = %(id)s
"""


def upsert_defaults(
    conn: Connection, schedules: Iterable[NewSchedule], *, default_max_attempts: int = DEFAULT_MAX_ATTEMPTS
) -> Upserted:
    """Make shipped schedules that are missing, and bring those up to date that no operator has edited.

    Any number of daemons may do it at once. One look at all of them tells what is to be done: mostly nothing, and on a
    new database everything, in one transaction. What others do meanwhile is met one by one.
    """
    done: dict[str, list[str]] = {"created": [], "updated": [], "kept": [], "current": []}
    asked = {schedule.name: schedule for schedule in schedules}
    definitions = {name: _definition(schedule, default_max_attempts) for name, schedule in asked.items()}
    held = _find(conn, FIND_DEFINED, definitions)
    missing = asked.keys() - held.keys()
    made = missing if _create_all(conn, [asked[name] for name in sorted(missing)], default_max_attempts) else set()
    for name, schedule in asked.items():
        stays = held[name].stays if name in held else None
        became = "created" if name in made else stays or _upsert(conn, schedule, definitions[name])
        done[became].append(name)
    return Upserted(created=tuple(done["created"]), updated=tuple(done["updated"]), kept=tuple(done["kept"]))


def _create_all(conn: Connection, schedules: Sequence[NewSchedule], default_max_attempts: int) -> bool:
    """Create all of these, or none if another daemon has just made one; tell which.

    They come in the order of their names, so that two daemons that do this at once wait for each other and never
    deadlock.
    """
    if not schedules:
        return True
    try:
        with conn.transaction():
            for schedule in schedules:
                _create(conn, schedule, default_max_attempts)
    except Conflict:
        return False
    return True


def _create(conn: Connection, schedule: NewSchedule, default_max_attempts: int) -> None:
    made = create_schedule(conn, schedule, default_max_attempts=default_max_attempts)
    conn.execute(STAMP_DEFINITION, {"id": made.id})


def _find(conn: Connection, statement: LiteralString, definitions: Mapping[str, dict[str, Any]]) -> dict[str, _Held]:
    """Return how the rows stand to definitions, by name."""
    values = {
        "names": list(definitions),
        "definitions": list(map(encode_payload, definitions.values())),
        "ayb_fields": list(AYB_FIELDS),
    }
    with conn.cursor(row_factory=class_row(_Held)) as cursor:
        return {held.name: held for held in cursor.execute(statement, values)}


def _upsert(
    conn: Connection, schedule: NewSchedule, definition: dict[str, Any]
) -> Literal["created", "updated", "kept", "current"]:
    while True:
        with conn.transaction():
            found = _find(conn, LOCK_DEFINED, {schedule.name: definition}).get(schedule.name)
            if found is not None:
                if found.stays:
                    return found.stays
                update_schedule(conn, found.id, definition)
                conn.execute(STAMP_DEFINITION, {"id": found.id})
                return "updated"
        if _create_all(conn, [schedule], definition["max_attempts"]):
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
