"""Reading the tables of other schedulers."""

from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from ayb_jobs.errors import NotFound
from ayb_jobs.model.digits import exact
from ayb_jobs.model.schedules.importing.celery_beat import BeatEntry, interval_s
from ayb_jobs.model.schedules.importing.pg_cron import PgCronJob
from ayb_jobs.storage.database import Connection

PG_CRON_JOBS = """
    SELECT jobid, to_jsonb(job) ->> 'jobname' AS jobname, schedule, command, database, username, active,
        to_jsonb(job) ->> 'nodename' AS nodename
    FROM cron.job AS job
    ORDER BY jobid
"""
PG_CRON_TIMEZONE = "SELECT coalesce(current_setting('cron.timezone', true), 'GMT')"


def pg_cron_jobs(conn: Connection) -> tuple[list[PgCronJob], str]:
    """Return pg_cron's jobs and its time zone. Raises `NotFound` if the database has no pg_cron."""
    try:
        with conn.cursor(row_factory=class_row(PgCronJob)) as cursor:
            jobs = cursor.execute(PG_CRON_JOBS).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise NotFound("this database has no table cron.job; name the one in which pg_cron runs") from None
    row = conn.execute(PG_CRON_TIMEZONE).fetchone()
    return jobs, str(row[0]) if row else "GMT"


BEAT_TASKS = """
    SELECT
        to_jsonb(periodic) AS task,
        to_jsonb(crontab) AS crontab,
        every.every,
        every.period,
        (to_jsonb(periodic) ->> 'expires')::timestamptz <= now() AS has_expired
    FROM django_celery_beat_periodictask AS periodic
        LEFT JOIN django_celery_beat_crontabschedule AS crontab ON crontab.id = periodic.crontab_id
        LEFT JOIN django_celery_beat_intervalschedule AS every ON every.id = periodic.interval_id
    ORDER BY periodic.name
"""
# Columns of a task that are options of its messages.
_OPTIONS = ("queue", "exchange", "routing_key", "priority", "expire_seconds")


class BeatRow(NamedTuple):
    """A periodic task with its crontab or its interval."""

    task: dict[str, Any]
    crontab: dict[str, Any] | None
    every: int | None
    period: str | None
    has_expired: bool | None


def beat_tasks(conn: Connection) -> list[BeatEntry]:
    """Return django-celery-beat's periodic tasks. Raises `NotFound` if the database has none of its tables."""
    try:
        with conn.cursor(row_factory=class_row(BeatRow)) as cursor:
            rows = cursor.execute(BEAT_TASKS).fetchall()
    except psycopg.errors.UndefinedTable:
        raise NotFound(
            "this database has no django_celery_beat tables; give a settings file, or their database"
        ) from None
    return [_beat_entry(row) for row in rows]


def _beat_entry(row: BeatRow) -> BeatEntry:
    task = row.task
    texts = {name: task.get(name) or empty for name, empty in (("args", "[]"), ("kwargs", "{}"), ("headers", "{}"))}
    try:
        decoded = {name: exact(text) for name, text in texts.items()}
        problem = _problem(row)
    except (ValueError, RecursionError):
        decoded, problem = {}, f"its arguments or headers are not JSON: {texts}"
    crontab = row.crontab
    return BeatEntry(
        name=task.get("name") or f"task {task.get('id')}",
        task=task.get("task") or "nothing",
        problem=problem,
        crontab=None
        if crontab is None
        else {name: str(value) for name, value in crontab.items() if name != "timezone"},
        every_s=None if row.every is None or row.period is None else interval_s(row.every, row.period),
        timezone=None if crontab is None else crontab.get("timezone"),
        args=decoded.get("args") or (),
        kwargs=decoded.get("kwargs"),
        options={name: task.get(name) for name in _OPTIONS} | {"headers": decoded.get("headers")},
        enabled=task["enabled"],
        notes=tuple(
            f"{words} {task[name]} there; here it fires from now on, until it is disabled"
            for words, name in (("it starts at", "start_time"), ("it ends at", "expires"))
            if task.get(name) is not None
        ),
    )


def _problem(row: BeatRow) -> str | None:
    """Return why a task cannot be had as a schedule, if that is so."""
    if not row.task.get("task"):
        return "it names no task"
    if row.crontab is not None and row.every is not None:
        return "it has a crontab and an interval"
    if row.task.get("one_off"):
        return "it is to run only once"
    if row.has_expired:
        return f"it ended at {row.task['expires']}"
    for kind in ("solar", "clocked"):
        if row.task.get(f"{kind}_id") is not None:
            return f"its schedule is {kind}, which nothing here can say"
    return None
