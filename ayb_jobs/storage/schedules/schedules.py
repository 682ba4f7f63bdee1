"""Schedules as their users see them: look, create, change, delete, and run one now."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import kwargs_row

from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.model.payload import encode_payload
from ayb_jobs.model.schedules.cron import check_cron, read_cron
from ayb_jobs.model.schedules.fields import TIMING
from ayb_jobs.model.schedules.fires import Fire, Timing, first_fire, passed_over
from ayb_jobs.model.schedules.schedule import NewSchedule, Schedule, check_values, defined_values
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.enqueueing import DROPPED
from ayb_jobs.storage.queue.jobs import READABLE_PAYLOAD, refusing_bad_values
from ayb_jobs.storage.rows import one_row
from ayb_jobs.storage.schedules.planning import record_passed_over

DEFAULT_MAX_ATTEMPTS = 3

# The fields of `Schedule`, for statements in which the table is called `schedule`.
SCHEDULE_COLUMNS = f"""
    schedule.id::text AS id, schedule.name, schedule.job_type, {READABLE_PAYLOAD} AS payload_text, schedule.cron_expr AS cron, schedule.timezone,
    schedule.enabled, schedule.max_attempts, schedule.queue, schedule.priority, schedule.catchup, schedule.catchup_max,
    schedule.catchup_window_s, schedule.overlap, schedule.dst, schedule.jitter_s, schedule.timeout_s,
    schedule.expect_success_within_s, schedule.ping_url,
    CASE
        WHEN schedule.definition IS NULL THEN 'operator'
        WHEN schedule.definition = _ayb_job_schedule_definition(schedule) THEN 'shipped'
        ELSE 'edited'
    END AS origin,
    CASE
        WHEN NOT schedule.enabled THEN 'disabled'
        WHEN schedule.last_error IS NOT NULL THEN 'broken'
        WHEN schedule.ended_at IS NOT NULL THEN 'ended'
        WHEN schedule.next_run_at > now() + interval '5 years' THEN 'dormant'
        ELSE 'enabled'
    END AS state,
    schedule.next_run_at, schedule.last_run_at, schedule.last_fire_at, left(schedule.last_error, 17000) AS last_error,
    schedule.created_at, schedule.updated_at
"""

LIST_SCHEDULES = f"SELECT {SCHEDULE_COLUMNS} FROM _ayb_job_schedules AS schedule ORDER BY schedule.name"


def list_schedules(conn: Connection) -> list[Schedule]:
    """Return every schedule, by name."""
    with conn.cursor(row_factory=kwargs_row(as_schedule)) as cursor:
        return cursor.execute(LIST_SCHEDULES).fetchall()


# An id goes before a name, so that a schedule that bears another's id as its name hides nothing.
GET_SCHEDULE = f"""
    SELECT {SCHEDULE_COLUMNS}
    FROM _ayb_job_schedules AS schedule
    WHERE schedule.id = %(id)s::uuid OR schedule.name = %(name)s
    ORDER BY schedule.id = %(id)s::uuid DESC NULLS LAST
    LIMIT 1
"""


def get_schedule(conn: Connection, key: str) -> Schedule:
    """Return a schedule by its id or its name. Raises `NotFound`."""
    return _found(conn, GET_SCHEDULE, key)


CREATE_SCHEDULE = f"""
    INSERT INTO _ayb_job_schedules AS schedule (
        id, name, job_type, payload, cron_expr, timezone, enabled, max_attempts, queue, priority, catchup, catchup_max,
        catchup_window_s, overlap, dst, jitter_s, timeout_s, expect_success_within_s, ping_url, next_run_at, planned
    )
    VALUES (
        _ayb_job_id(), %(name)s, %(job_type)s, %(payload)s::jsonb, %(cron)s, %(timezone)s, %(enabled)s, %(max_attempts)s,
        %(queue)s, %(priority)s, %(catchup)s, %(catchup_max)s, %(catchup_window_s)s, %(overlap)s, %(dst)s, %(jitter_s)s,
        %(timeout_s)s, %(expect_success_within_s)s, %(ping_url)s, %(next_run_at)s::timestamptz,
        CASE WHEN %(enabled)s THEN concat_ws(' ', %(cron)s::varchar, %(timezone)s::varchar, %(dst)s::varchar) END
    )
    RETURNING {SCHEDULE_COLUMNS}, CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'schedule')::text END AS woken
"""


def create_schedule(
    conn: Connection, schedule: NewSchedule, *, default_max_attempts: int = DEFAULT_MAX_ATTEMPTS
) -> Schedule:
    """Create a schedule, whose first fire is the first one after now, and return it.

    Raises `InvalidInput` for values that cannot be used, `Conflict` where the name is taken.
    """
    values = _columns(schedule, default_max_attempts)
    next_run_at = _first_fire_after_now(conn, values, None)
    with refusing_bad_values(), _refusing_taken_name(schedule.name):
        return _written(conn, CREATE_SCHEDULE, {**values, "next_run_at": next_run_at})


LOCK_SCHEDULE = f"{GET_SCHEDULE} FOR NO KEY UPDATE"
CHANGE_SCHEDULE = f"""
    UPDATE _ayb_job_schedules AS schedule
    SET name = %(name)s, job_type = %(job_type)s, payload = coalesce(%(payload)s::jsonb, schedule.payload),
        cron_expr = %(cron)s, timezone = %(timezone)s, enabled = %(enabled)s, max_attempts = %(max_attempts)s,
        queue = %(queue)s, priority = %(priority)s, catchup = %(catchup)s, catchup_max = %(catchup_max)s,
        catchup_window_s = %(catchup_window_s)s, overlap = %(overlap)s, dst = %(dst)s, jitter_s = %(jitter_s)s,
        timeout_s = %(timeout_s)s, expect_success_within_s = %(expect_success_within_s)s, ping_url = %(ping_url)s,
        next_run_at = CASE
            WHEN %(replan)s THEN %(next_run_at)s::timestamptz
            WHEN %(forget)s THEN NULL
            ELSE schedule.next_run_at
        END,
        planned = CASE
            WHEN NOT %(enabled)s THEN NULL
            WHEN %(replan)s THEN concat_ws(' ', %(cron)s::varchar, %(timezone)s::varchar, %(dst)s::varchar)
            ELSE schedule.planned
        END,
        last_error = CASE WHEN %(replan)s THEN NULL ELSE schedule.last_error END,
        ended_at = CASE WHEN %(replan)s OR NOT %(enabled)s THEN NULL ELSE schedule.ended_at END,
        last_fire_at = greatest(schedule.last_fire_at, %(passed_at)s::timestamptz),
        watched_since = CASE WHEN %(replan)s THEN now() ELSE schedule.watched_since END,
        updated_at = now()
    WHERE schedule.id = %(id)s::uuid
    RETURNING {SCHEDULE_COLUMNS}, CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'schedule')::text END AS woken
"""


def update_schedule(
    conn: Connection, key: str, changes: Mapping[str, Any], *, forget_next_run: bool = False
) -> Schedule:
    """Change the fields of a schedule that are given, by their names in `NewSchedule`, and return it.

    If its timing changes or it is enabled again, its next run is the first after now; the past is not made up for. A
    disabled one keeps its next run for show, as AYB does, unless it is to `forget_next_run`.
    Raises `InvalidInput`, `NotFound`, or `Conflict` where a new name is taken; nothing is changed then.
    """
    check_values(changes)
    with conn.transaction():
        current = _found(conn, LOCK_SCHEDULE, key)
        values = {"name": current.name, **defined_values(current), **changes}
        if changes.get("max_attempts", current.max_attempts) is None:
            values["max_attempts"] = current.max_attempts
        values["payload"] = encode_payload(changes["payload"]) if "payload" in changes else None
        retimed = any(values[name] != getattr(current, name) for name in TIMING)
        if retimed:
            check_values({"cron": values["cron"], "timezone": values["timezone"]})
        replan = retimed or (values["enabled"] and not current.enabled)
        passed = _passed_over(conn, current) if retimed or not values["enabled"] else []
        next_run_at = _first_fire_after_now(conn, values, current.last_fire_at, is_new=retimed) if replan else None
        with refusing_bad_values(), _refusing_taken_name(values["name"]):
            change = {"id": current.id, "replan": replan, "next_run_at": next_run_at, "forget": forget_next_run}
            change["passed_at"] = passed[-1].fire_at if passed else None
            changed = _written(conn, CHANGE_SCHEDULE, values | change)
        record_passed_over(conn, current.id, passed)
    return changed


def _written(conn: Connection, statement: LiteralString, values: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a statement wrote, which returns its row or raises."""
    with conn.cursor(row_factory=kwargs_row(as_schedule)) as cursor:
        return one_row(cursor.execute(statement, values))


def enable_schedule(conn: Connection, key: str) -> Schedule:
    """Enable a schedule and return it; its next run is the first after now. Raises `NotFound`."""
    return update_schedule(conn, key, {"enabled": True})


def disable_schedule(conn: Connection, key: str) -> Schedule:
    """Disable a schedule and return it. Raises `NotFound`."""
    return update_schedule(conn, key, {"enabled": False}, forget_next_run=True)


DETACHED_AT_ONCE = 5000
DETACH_ENDED_JOBS = """
    UPDATE _ayb_jobs
    SET schedule_id = NULL
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM _ayb_jobs
        WHERE schedule_id = %(id)s AND state NOT IN ('queued', 'running')
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ))
"""


def detach_ended_jobs(conn: Connection, key: str) -> bool:
    """Take a schedule that is to be deleted from a batch of its ended jobs; True where there may be more.

    A schedule that fires each second has hundreds of thousands, too many to be changed in the deletion's statement.
    Raises `NotFound`.
    """
    values = {"id": get_schedule(conn, key).id, "limit": DETACHED_AT_ONCE}
    return conn.execute(DETACH_ENDED_JOBS, values).rowcount >= DETACHED_AT_ONCE


DELETE_SCHEDULE = "DELETE FROM _ayb_job_schedules WHERE id = %(id)s"


def delete_schedule(conn: Connection, key: str) -> Schedule:
    """Delete a schedule with its ledger, and return what it was; its jobs stay. Raises `NotFound`."""
    with conn.transaction():
        schedule = _found(conn, LOCK_SCHEDULE, key)
        conn.execute(DELETE_SCHEDULE, {"id": schedule.id})
    return schedule


TRIGGER_SCHEDULE = f"""
    INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, timeout_s, schedule_id, idempotency_key)
    SELECT _ayb_job_id(), job_type, payload, queue, priority, max_attempts, timeout_s, id, %(once)s::text
    FROM _ayb_job_schedules
    WHERE id = %(id)s
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id::text, CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END
"""


FIND_TRIGGERED = "SELECT id::text FROM _ayb_jobs WHERE idempotency_key = %(once)s"


class Triggered(NamedTuple):
    """The job of a schedule, and whether it was made for this call."""

    id: str
    created: bool


def trigger_schedule(conn: Connection, key: str, *, once: str | None = None) -> Triggered:
    """Enqueue a job of a schedule now, enabled or not; its fires stay as they are.

    If a job has the idempotency key `once`, it is the answer. Raises `NotFound`, and `Conflict` if a trigger drops the
    job.
    """
    schedule = get_schedule(conn, key)
    row = conn.execute(TRIGGER_SCHEDULE, {"id": schedule.id, "once": once}).fetchone()
    found = conn.execute(FIND_TRIGGERED, {"once": once}).fetchone() if row is None and once else None
    if found is not None:
        return Triggered(str(found[0]), created=False)
    if row is None:
        get_schedule(conn, schedule.id)  # it may be gone since
        raise Conflict(DROPPED)
    return Triggered(str(row[0]), created=True)


def as_schedule(
    *, cron: str, timezone: str, state: str, last_error: str | None, woken: str | None = None, **columns: Any
) -> Schedule:
    """Return a row of `SCHEDULE_COLUMNS` as a schedule; a timing that cannot be read makes it broken."""
    del woken  # a statement that notifies has to select what it does
    error = last_error or unreadable(cron, timezone)
    is_broken = columns["enabled"] and error
    return Schedule(cron=cron, timezone=timezone, state="broken" if is_broken else state, last_error=error, **columns)


def unreadable(cron: str, timezone: str) -> str | None:
    """Return why a stored timing cannot be read, or None; so that it is known before any scheduler has tried it."""
    try:
        read_cron(cron, timezone)
    except InvalidInput as error:
        return str(error)
    return None


def _columns(schedule: NewSchedule, default_max_attempts: int) -> dict[str, Any]:
    """Return the values of a new schedule as its statements bind them."""
    return {
        **defined_values(schedule),
        "name": schedule.name,
        "payload": schedule.payload_text,
        "max_attempts": schedule.max_attempts or default_max_attempts,
    }


NOW = "SELECT now()"


def _first_fire_after_now(
    conn: Connection, values: Mapping[str, Any], last_fire_at: datetime | None, *, is_new: bool = True
) -> datetime:
    """Return when a schedule fires first; a timing that is new has to fire within five years."""
    row = one_row(conn.execute(NOW))
    if is_new:
        check_cron(values["cron"], values["timezone"], row[0])
    return first_fire(values["cron"], values["timezone"], values["dst"], row[0], last_fire_at)


def _passed_over(conn: Connection, schedule: Schedule) -> list[Fire]:
    """Return the fires that a schedule, as it was before an edit, has not made although they were due."""
    row = conn.execute(NOW).fetchone()
    if row is None or not schedule.enabled or schedule.next_run_at is None or schedule.next_run_at > row[0]:
        return []
    timing = Timing(schedule.cron, schedule.timezone, schedule.dst)
    return passed_over(timing, schedule.next_run_at, schedule.last_fire_at, row[0])


def _found(conn: Connection, statement: LiteralString, key: str) -> Schedule:
    try:
        id_ = str(uuid.UUID(key))
    except ValueError:
        id_ = None
    with refusing_bad_values(), conn.cursor(row_factory=kwargs_row(as_schedule)) as cursor:
        schedule = cursor.execute(statement, {"id": id_, "name": key}).fetchone()
    if schedule is None:
        raise NotFound(f"there is no schedule {key}")
    return schedule


@contextmanager
def _refusing_taken_name(name: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation:
        raise Conflict(f"there is a schedule named {name} already") from None
